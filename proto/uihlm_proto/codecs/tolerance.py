"""How far x̂ may be from x: a bound ε on TV(x, x̂), fixed or moved online.

    exceeding_t = TV_t > τ
    ε_t         = τ + max(0, α·t − E_{t-1} − 1)          t = 1, 2, … drafts of this session, E their exceedings so far

α = 0 keeps ε = τ. With α > 0 the device saves up: quiet drafts raise ε above τ until one that is dear to describe may
exceed it, after which ε falls back. This is online conformal control in its deterministic form: a draft may exceed τ only
where E_{t-1} + 1 < α·t, so the share of exceeding drafts is at most α after every draft, for any sequence of x, with no
assumption on it. Only drafts that no grid brings within τ break that; they count as exceeding.

The state is the device's: the payload names its grid, so the base station needs none. It is kept by position, and drafts
from the position asked for on are forgotten first: a retry, a rollback or a second take of a position finds ε as it was.
Another session key starts afresh.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tolerance:
    """ε from draft to draft.

    Attributes:
        tv: τ, the TV that drafts should keep to.
        alpha: α, the share of drafts that may exceed it.
    """

    tv: float
    alpha: float
    _key: bytes = field(default=b"", init=False)
    # (position, exceeding drafts up to and with it), by rising position.
    _past: list[tuple[int, int]] = field(default_factory=list, init=False)

    def epsilon(self, key: bytes, position: int) -> float:
        """Return ε of the draft at `position`, and forget what was drafted from there on."""
        if key != self._key:
            self._key, self._past = key, []
        while self._past and self._past[-1][0] >= position:
            self._past.pop()
        return self.tv + max(0.0, self.alpha * (len(self._past) + 1) - self._exceeding - 1.0)

    def drafted(self, position: int, total_variation: float) -> None:
        """Note the TV of the draft at `position`, for which ε was asked last."""
        self._past.append((position, self._exceeding + (total_variation > self.tv)))

    @property
    def _exceeding(self) -> int:
        return self._past[-1][1] if self._past else 0
