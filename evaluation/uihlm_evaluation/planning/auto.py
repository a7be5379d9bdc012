"""Choosing the way of each answer by the plan's own equations, from what the last answers showed.

    link       seconds a trip without airtime, and bit/s: the latest answer's, because links change
    compute    the profile's times, times what they were off by: half of it the latest answer's
    α          the profile's, as 50 drafts' worth of trust, and the drafts judged since, each answer's at 0.9 of the next one's

The way changes only where another one is better by more than `MARGIN` under the figures of the moment: an estimate that
wavers must not make the way waver. A base station that cannot be reached leaves `slm`, until it can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from uihlm_evaluation.calibration.plan_figures import PlanFigures, TreeFigures
from uihlm_evaluation.planning.equations import Conditions, Model, Prediction
from uihlm_evaluation.planning.plan import Objective, Plan, cost, plan
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.planning.ways import LLM, SLM, Family, Way
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import LinkSettings

# A way must be better by so much to take another one's place.
MARGIN = 0.05
_TRUST = 50.0
_FADE = 0.9
# Fewer tokens say nothing of what compute takes.
_ENOUGH = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer showed.

    Attributes:
        way: how it was written.
        tokens: its length.
        trips: requests that were answered, Open included.
        link_s: what these took on the link without airtime, all together.
        airtime_s, bit: the requests' time on the air, and the bits it was for.
        draft_s: a step of the drafter; None where none was made by itself.
        forwards: positions and seconds of LLM forwards.
        judged, accepted: drafts.
        lost: whether the base station could not be reached.
    """

    way: Way
    tokens: int = 0
    trips: int = 0
    link_s: float = 0.0
    airtime_s: float = 0.0
    bit: float = 0.0
    draft_s: float | None = None
    forwards: Sequence[tuple[int, float]] = ()
    judged: int = 0
    accepted: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be planned for; fields as in `plan` and `Conditions`."""

    objective: Objective = Objective.TOKENS
    risk: float = 0.0
    joules: JouleProfile = JouleProfile()
    trees: bool = True


class Auto:
    """Chooses a way for each answer.

    Attributes:
        way: of the next answer.
        reason: why it is that one, in a sentence.
        lost: whether the base station could not be reached when last tried.
    """

    def __init__(
        self, figures: PlanFigures, sizes: Sizes, link: LinkSettings, wish: Wish, acceptance: float | None = None
    ) -> None:
        """Plan the first answer from the profile and the link that the settings name.

        Args:
            figures: of the pair.
            sizes: of the codec's messages.
            link: as far as it is known before anything was sent.
            wish: what is wanted.
            acceptance: where it is not that of codec `coupled`.
        """
        self._figures, self._sizes, self._link, self._wish = figures, sizes, link, wish
        self._known = figures.acceptance if acceptance is None else acceptance
        self._judged = self._accepted = 0.0
        self._draft_factor = self._forward_factor = 1.0
        self._tokens = 64.0
        self.lost = False
        self.way, self.reason = LLM, ""
        self._choose(first=True)

    def saw(self, seen: Seen) -> None:
        """Learn from an answer, and choose the way of the next one."""
        self.lost = seen.lost
        if not seen.lost:
            self._learn_link(seen)
            if seen.tokens >= _ENOUGH:
                self._tokens = 0.5 * (self._tokens + seen.tokens)
                self._learn_compute(seen)
        self._choose()

    def found(self) -> None:
        """Say that the base station can be reached again."""
        self.lost = False
        self._choose()

    def change(self, wish: Wish) -> None:
        """Plan for something else from now on; what was learnt stays."""
        self._wish = wish
        self._choose(first=True)

    @property
    def plan(self) -> Plan:
        """The plan behind the choice."""
        conditions = Conditions(self._link, 1, max(2, round(self._tokens)), opens=False, joules=self._wish.joules)
        model = Model(self._now(), self._sizes, self._acceptance)
        wish = self._wish
        return plan(model, conditions, wish.objective, wish.risk, trees=wish.trees, outage=self.lost)

    @property
    def estimates(self) -> str:
        """What is believed of link and compute, in words."""
        now, link = self._now(), self._link
        rate = "" if link.radio is None else f", {link.radio.rate_bit_s() / 1e3:.3g} kbit/s up"
        return (
            f"round trip {1e3 * link.rtt_s:.3g} ms{rate}; a draft {1e3 * now.draft_s:.3g} ms, an LLM forward "
            f"{1e3 * now.forward_s:.3g} ms, {self._acceptance:.0%} of drafts accepted"
        )

    @property
    def _acceptance(self) -> float:
        return (_TRUST * self._known + self._accepted) / (_TRUST + self._judged)

    def _now(self) -> PlanFigures:
        """Return the figures as they seem to be."""
        old, draft, forward = self._figures, self._draft_factor, self._forward_factor
        return replace(
            old,
            draft_s=draft * old.draft_s,
            u_draft_s=draft * old.u_draft_s,
            draft_position_s=draft * old.draft_position_s,
            forward_s=forward * old.forward_s,
            position_s=forward * old.position_s,
            trees=tuple(_rescaled(tree, self._known, self._acceptance) for tree in old.trees),
        )

    def _choose(self, first: bool = False) -> None:
        found = self.plan
        best, held = found.best, self.way
        current = next((p for p in found.predictions if _alike(p, held) and found.refusal(p) is None), None)
        if self.lost:
            self.way, self.reason = SLM, "the base station cannot be reached: this device writes alone, unchecked"
            return
        if current is not None and not first and best.way != current.way:
            now, least = cost(current, found.objective), cost(best, found.objective)
            if least > (1.0 - MARGIN) * now:
                self.way = current.way
                self.reason = f"{held} stays: {best.way} would be better by {1.0 - least / now:.0%} alone"
                return
        self.way, self.reason = best.way, found.reason

    def _learn_link(self, seen: Seen) -> None:
        if not seen.trips:
            return
        # A request that holds no bits (`llm`) says nothing of the rate.
        radio = self._link.radio
        if seen.bit > 0.0 and seen.airtime_s > 0.0:
            base = replace(radio or RadioLink(), bandwidth_hz=1.0)
            radio = replace(base, bandwidth_hz=seen.bit / seen.airtime_s / base.rate_bit_s())
        elif seen.bit > 0.0:
            radio = None
        self._link = replace(
            self._link,
            radio=radio,
            devices=1,
            fading=FadingMode.NONE,
            trace=None,
            rtt_s=seen.link_s / seen.trips,
            # Both are in the trip.
            grant_delay_s=0.0,
            downlink=None,
        )

    def _learn_compute(self, seen: Seen) -> None:
        figures = self._figures
        if seen.draft_s is not None and figures.draft_s > 0.0:
            usual_s = figures.u_draft_s if seen.way.family is Family.SKIPPING else figures.draft_s
            self._draft_factor = 0.5 * (self._draft_factor + seen.draft_s / usual_s)
        usual_s = sum(figures.forward_s + figures.position_s * (positions - 1) for positions, _ in seen.forwards)
        if usual_s > 0.0:
            self._forward_factor = 0.5 * (self._forward_factor + sum(s for _, s in seen.forwards) / usual_s)
        if seen.judged:
            self._judged = _FADE * self._judged + seen.judged
            self._accepted = _FADE * self._accepted + seen.accepted


def median_s(seconds: Sequence[float]) -> float | None:
    """Return the median, None of nothing."""
    return float(np.median(seconds)) if seconds else None


def _alike(prediction: Prediction, way: Way) -> bool:
    """Return whether a prediction is of this way; `u` at whatever threshold."""
    return prediction.way == way or prediction.way.family is way.family is Family.SKIPPING


def _rescaled(tree: TreeFigures, known: float, now: float) -> TreeFigures:
    """Return a tree's figures where drafts are accepted otherwise than when it was measured."""
    share = min(1.0, now / known) if known > 0.0 else 1.0
    return replace(tree, tokens=1.0 + share * (tree.tokens - 1.0))
