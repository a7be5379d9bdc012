"""What an answer of n tokens takes in each way: seconds, joules, LLM forwards.

    slm      n·t                                     t a draft, f(p) a forward over p positions
    llm      o + g + a + R + (n − 1)·max(f(1), c)    R round trip, g grant, a airtime up, c airtime of a verdict down
    hlm, L   o + n/E·(L·t + ℓ + f(p))                ℓ = g + a(L) + R + c; E = 1, p = 1 for L = 1, else
                                                     E = (1 − α^(L+1))/(1 − α), p = L + 1
    hlm, tree of N   o + n/E·(d + ℓ + f(N + 1))      E tokens a trip, d what growing a tree takes, as measured
    hlm, in flight   o + n·E[S] ÷ E[k]               uihlm_evaluation/planning/flights.py
    hlm, runs on     o + max(n·(t + ℓ), t + ℓ + (n − 1)·f(1))    the forward beside draft and trip
    u, rate r        o + n·t_u + n·r·(ℓ + f(1/r))    the ids skipped since the last upload ride on the next

o is what opening a stream adds: the first upload leaves no sooner than a round trip after Open. The prompt's prefill is left
out (all but `slm` pay it), and so is the row it leaves: the first forward is over one position less. Under load f is
multiplied by the batch curve; of such a forward's joules a device's share is one of the sessions it serves. Queues of other
sessions are not modelled, as on the virtual clock; Open's own airtime is not either (it is 0 unless airtime follows the wire).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from uihlm_device.draft_length import expected_tokens
from uihlm_evaluation.calibration.plan_figures import PlanFigures
from uihlm_evaluation.planning.flights import FlightTimes, stretch
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.planning.ways import Family, Way
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where answers are written.

    Attributes:
        link: the link.
        sessions: how many the base station serves at once, this one included.
        tokens: of an answer, n.
        opens: whether each answer opens a stream, as in `eval`; a chat keeps its own.
        joules: watts.
    """

    link: LinkSettings = LinkSettings()
    sessions: int = 1
    tokens: int = 64
    opens: bool = True
    joules: JouleProfile = JouleProfile()


@dataclass(frozen=True, slots=True)
class Spent:
    """Totals of an answer: seconds in all, of the device, the transmitter and the LLM; forwards, positions, payload bits."""

    elapsed_s: float
    draft_s: float
    airtime_s: float = 0.0
    forward_s: float = 0.0
    forwards: float = 0.0
    positions: float = 0.0
    payload_bit: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a way comes to; all but the first two a token.

    Attributes:
        way: the way.
        tok_s: tokens a second.
        joules: of device, transmitter and base station.
        forwards, positions: of the LLM.
        payload_bit: up.
        risk: rejection probability of skipped tokens; 0 of the lossless ways, None where nobody judges.
    """

    way: Way
    tok_s: float
    joules: float
    forwards: float
    positions: float
    payload_bit: float
    risk: float | None


class Model:
    """The equations, for one pair, codec and acceptance."""

    def __init__(self, figures: PlanFigures, sizes: Sizes, acceptance: float | None = None) -> None:
        """Take the pair's figures; `acceptance` where it is not that of codec `coupled`."""
        self.figures = figures
        self._sizes = sizes
        self._acceptance = figures.acceptance if acceptance is None else acceptance

    def of(self, figures: PlanFigures) -> Model:
        """Return the equations for other figures, all else as here."""
        return Model(figures, self._sizes, self._acceptance)

    def predict(self, way: Way, conditions: Conditions) -> Prediction:
        """Return what a way comes to.

        Raises:
            InvalidRequestError: for a load beyond a batch curve that was not measured.
        """
        timing = loaded(self.figures, conditions.sessions)
        spent = self._spent(way, conditions, timing)
        n = conditions.tokens
        link = conditions.link
        transmit_w = link.radio.transmit_power_w if link.radio is not None else 0.0
        share_s = spent.forward_s / conditions.sessions
        joules = replace(conditions.joules, transmit_w=transmit_w).energy_j(spent.airtime_s, spent.draft_s, share_s)
        risk = 0.0
        if way.family is Family.SKIPPING:
            risk = next(point.risk for point in self.figures.skipping if point.theta_u == way.theta_u)
        return Prediction(
            way,
            n / spent.elapsed_s,
            joules.total_j / n,
            spent.forwards / n,
            spent.positions / n,
            spent.payload_bit / n,
            None if way.family is Family.SLM else risk,
        )

    def _spent(self, way: Way, conditions: Conditions, timing: TimingProfile) -> Spent:
        n = conditions.tokens
        match way.family:
            case Family.SLM:
                return Spent(n * self.figures.draft_s, n * self.figures.draft_s)
            case Family.LLM:
                return self._llm(conditions, timing)
            case Family.FLIGHTS:
                return self._flights(way, conditions, timing)
            case Family.SKIPPING:
                rate = next(point.upload_rate for point in self.figures.skipping if point.theta_u == way.theta_u)
                draft_s = self.figures.u_draft_s
                if rate <= 0.0:
                    return Spent(n * draft_s, n * draft_s)
                return self._trips(conditions, timing, 1.0 / rate, draft_s / rate, 1, skipped=1.0 / rate - 1.0)
            case Family.TREES:
                tree = next(tree for tree in self.figures.trees if tree.nodes == way.tree)
                calls = tree.drafter_calls
                further = tree.drafter_nodes - calls
                draft_s = calls * timing.drafted_s(0.0, 1) + further * self.figures.draft_position_s
                return self._trips(conditions, timing, tree.tokens, draft_s, tree.nodes, tree=True)
            case _:
                length = way.draft_length
                tokens = expected_tokens(self._acceptance, length)
                drafts_s = length * self.figures.draft_s
                return self._trips(conditions, timing, tokens, drafts_s, length, run_on=way.run_on)

    def _trips(
        self,
        conditions: Conditions,
        timing: TimingProfile,
        tokens: float,
        draft_s: float,
        drafts: int,
        skipped: float = 0.0,
        tree: bool = False,
        run_on: bool = False,
    ) -> Spent:
        """A loop that waits: so many tokens a trip. Where the LLM runs on, a trip takes no longer than its forward, or that."""
        link, sizes = conditions.link, self._sizes
        trips = conditions.tokens / tokens
        # A single draft needs the row before it; more need their own as well, and that of the bonus.
        positions = skipped + drafts + (drafts > 1)
        airtime_s = sizes.airtime_s(link, drafts, skipped, tree)
        link_s = link.grant_delay_s + airtime_s + link.rtt_s + sizes.downlink_s(link, drafts, tree)
        first_s = _forward_s(timing, positions) - _forward_s(timing, positions - 1.0)
        forward_s = trips * _forward_s(timing, positions) - first_s
        opening_s = max(0.0, link.rtt_s - draft_s) if conditions.opens else 0.0
        trips_s = trips * (draft_s + link_s) + forward_s
        if run_on:
            trips_s = max(trips_s - forward_s, draft_s + link_s + forward_s)
        return Spent(
            opening_s + trips_s,
            trips * draft_s,
            trips * airtime_s,
            forward_s,
            trips - (positions <= 1.0),
            trips * positions - 1.0,
            trips * sizes.payload_bit(drafts, skipped),
        )

    def _llm(self, conditions: Conditions, timing: TimingProfile) -> Spent:
        link, further = conditions.link, conditions.tokens - 1
        airtime_s, down_s = self._sizes.airtime_s(link, 0), self._sizes.downlink_s(link, 0)
        forward_s = _forward_s(timing, 1.0)
        opening_s = link.rtt_s if conditions.opens else 0.0
        first_s = link.grant_delay_s + airtime_s + link.rtt_s + down_s
        elapsed_s = opening_s + first_s + further * max(forward_s, down_s)
        return Spent(elapsed_s, 0.0, airtime_s, further * forward_s, further, further)

    def _flights(self, way: Way, conditions: Conditions, timing: TimingProfile) -> Spent:
        link, n = conditions.link, conditions.tokens
        airtime_s, forward_s = self._sizes.airtime_s(link, 1), _forward_s(timing, 1.0)
        draft_s = self.figures.draft_s
        times = FlightTimes(
            draft_s, link.grant_delay_s, airtime_s, link.rtt_s, forward_s, self._sizes.downlink_s(link, 1), way.run_on
        )
        mean = stretch(self._acceptance, way.in_flight, times, n)
        stretches = n / mean.tokens
        opening_s = max(0.0, link.rtt_s - draft_s) if conditions.opens else 0.0
        sent = stretches * mean.drafts
        # The prefill's row judges the first draft: its forward is not waited for, or what of it would be.
        trip_s = draft_s + times.grant_s + airtime_s + link.rtt_s + times.downlink_s
        unmade_s = max(0.0, forward_s - trip_s) if way.run_on else forward_s
        return Spent(
            opening_s + stretches * mean.seconds - unmade_s,
            sent * draft_s,
            sent * airtime_s,
            (n - 1) * forward_s,
            n - 1,
            n - 1,
            sent * self._sizes.payload_bit(1),
        )


def loaded(figures: PlanFigures, sessions: int) -> TimingProfile:
    """Return what compute takes on a base station of so many sessions: what a virtual clock is charged under that load."""
    slowdown, timing = figures.slowdown(sessions), figures.timing
    return replace(timing, forward_s=slowdown * figures.forward_s, position_s=slowdown * figures.position_s)


def _forward_s(timing: TimingProfile, positions: float) -> float:
    """Return the seconds of a forward over a mean number of positions; without any nothing runs."""
    assert timing.forward_s is not None, "a plan's times are fixed"
    return timing.forward_s * min(positions, 1.0) + timing.position_s * max(0.0, positions - 1.0)
