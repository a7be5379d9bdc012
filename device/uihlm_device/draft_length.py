"""How many drafts should an upload carry? The number whose expected time a token is least.

    T(L) = (L·t_d + r + L·a + f(L + 1)) / E(L)        seconds a token
    E(L) = (1 − α^(L+1)) / (1 − α) for L ≥ 2,  1 for L = 1      tokens a round (a single draft earns no bonus)

t_d draft, r the round's share of the link that does not grow with it (RTT, grant), a airtime a draft, f the LLM's forward
over so many positions, α acceptance. All are measured as answers are written; the length is fixed for each answer.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 16
# Before anything is known: near the best for the acceptances of the papers' pairs on links of some tens of milliseconds.
FIRST = 4
_ENOUGH_DRAFTS = 24


@dataclass(slots=True)
class LengthChooser:
    """Running sums of what rounds took.

    Attributes:
        accepted, judged: drafts.
        drafts, draft_s: drafts made and the seconds they took.
        rounds, link_s, airtime_s, sent: rounds, their seconds on the link and on the air, and the drafts they carried.
    """

    accepted: int = 0
    judged: int = 0
    drafts: int = 0
    draft_s: float = 0.0
    rounds: int = 0
    link_s: float = 0.0
    airtime_s: float = 0.0
    sent: int = 0
    # Of forwards: how many, Σ positions, Σ seconds, Σ positions², Σ positions·seconds.
    _n: int = 0
    _p: float = 0.0
    _s: float = 0.0
    _pp: float = 0.0
    _ps: float = 0.0

    def drafted(self, seconds: float) -> None:
        """Note a draft."""
        self.drafts += 1
        self.draft_s += seconds

    def judged_round(self, sent: int, accepted: int, link_s: float, airtime_s: float) -> None:
        """Note a round that was judged: drafts behind the first rejected one were not."""
        self.rounds += 1
        self.sent += sent
        self.accepted += accepted
        self.judged += accepted + (accepted < sent)
        self.link_s += link_s
        self.airtime_s += airtime_s

    def forward(self, positions: int, seconds: float) -> None:
        """Note a forward of the LLM."""
        self._n += 1
        self._p += positions
        self._s += seconds
        self._pp += positions * positions
        self._ps += positions * seconds

    @property
    def acceptance(self) -> float:
        """α, drawn a little towards one half so that a few lucky rounds do not run away."""
        return (self.accepted + 1.0) / (self.judged + 2.0)

    def seconds_a_token(self, length: int) -> float:
        """Return T(L)."""
        draft_s = self.draft_s / max(1, self.drafts)
        airtime_s = self.airtime_s / max(1, self.sent)
        fixed_s = (self.link_s - self.airtime_s) / max(1, self.rounds)
        positions = length + (length > 1)
        round_s = length * (draft_s + airtime_s) + fixed_s + self._forward_s(positions)
        return round_s / expected_tokens(self.acceptance, length)

    def best(self) -> int:
        """Return the length to use for the next answer."""
        if self.judged < _ENOUGH_DRAFTS:
            return FIRST
        return min(range(1, LONGEST + 1), key=self.seconds_a_token)

    def _forward_s(self, positions: int) -> float:
        """Return the seconds of a forward, by the line through those seen."""
        if not self._n:
            return 0.0
        spread = self._pp - self._p * self._p / self._n
        slope = max(0.0, (self._ps - self._p * self._s / self._n) / spread) if spread > 0.0 else 0.0
        return max(0.0, self._s / self._n + slope * (positions - self._p / self._n))


def expected_tokens(acceptance: float, length: int) -> float:
    """Return E(L): tokens that a round of `length` drafts yields, each accepted with the same probability."""
    if length == 1:
        return 1.0
    return sum(acceptance**i for i in range(length + 1))
