"""How likely is the LLM's draw to be the m-th best of the drafter's race?

    c_m = h · s_m^(1/τ) / Σ_j s_j^(1/τ)

s_m the race's scores (uihlm_device/trees/tree.py), h the share of draws that are among the candidates at all, τ how far apart
the two races run: with τ → 0 the best candidate always wins. h, τ and the chances by rank alone (`usual`) are learnt from
the rounds, and start from what the bundled pair gave at T_s = 0.6 (2,271 draws of LLM text): there τ = 1.4 gives a draw
1.23 nats, its rank alone 1.41.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Candidates looked at below a node.
CANDIDATES = 16

# Shares of draws by rank, from 0.
_MEASURED = (0.63, 0.15, 0.07, 0.03, *[0.0135] * 4, *[0.0045] * 8)
_TAU = 1.4
# Draws' worth of trust in what was measured, and what one is worth per squared ln of τ, in nats.
_TRUST = 50.0
_NATS = 0.4

_TAUS = _TAU * 2.0 ** (np.arange(-5, 4) / 2.0)


class Chances:
    """c_m by candidates' scores, and by rank alone."""

    def __init__(self) -> None:
        self._ranks = np.array(_MEASURED) * _TRUST
        self._draws = _TRUST
        # Log-likelihood of each τ, nats.
        self._fit: FloatArray = -_TRUST * _NATS * np.log(_TAUS / _TAU) ** 2

    @property
    def tau(self) -> float:
        """τ: the likeliest of a few, half a factor of two apart."""
        return float(_TAUS[int(np.argmax(self._fit))])

    def usual(self) -> tuple[float, ...]:
        """Return c_m for each rank where no score is known, likeliest first."""
        return tuple(sorted((float(share) for share in self._ranks / self._draws), reverse=True))

    def of(self, scores: FloatArray) -> tuple[float, ...]:
        """Return c_m of each candidate, given log s of all, best first, `[candidate]`."""
        odds = np.exp((scores - scores[0]) / self.tau)
        return tuple(float(chance) for chance in odds * (self._ranks.sum() / self._draws / odds.sum()))

    def note(self, scores: Sequence[float], rank: int | None) -> None:
        """Note which of the candidates with these log s was drawn, from 0; None if it was none of them."""
        self._draws += 1.0
        if rank is None:
            return
        self._ranks[rank] += 1.0
        logits = (np.array(scores) - scores[0])[:, np.newaxis] / _TAUS
        self._fit += logits[rank] - np.log(np.exp(logits).sum(axis=0))
