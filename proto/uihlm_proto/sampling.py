"""From logits to a distribution, and from a distribution to a token: the one convention of both ends.

    p = normalise(top_p(top_k(softmax(z / T))))        z raw logits, T temperature

Temperature first, then top-k, then top-p, then one normalisation; ties at a cut fall to the lower id. T = 0 is greedy: all
mass on the largest logit (lowest id on a tie). The uncertainty u of a draft does not pass through here: it is taken on z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling contract of a session.

    Attributes:
        temperature: softmax temperature T_s; 0 is greedy.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the smallest set of likeliest tokens with at least this mass; 1 keeps all.

    Raises:
        InvalidRequestError: for a temperature below 0 or not finite, a negative top_k, or a top_p outside (0, 1].
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature >= 0.0):
            raise InvalidRequestError(f"temperature must be a finite number of at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise InvalidRequestError(f"top_k must be 0 (keep all) or more, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidRequestError(f"top_p must be above 0 and at most 1 (keep all), got {self.top_p}")

    def distribution(self, logits: Logits) -> FloatArray:
        """Return the distribution sampled from, `[V]` of float64 that sums to 1, given raw logits `[V]`."""
        if self.temperature == 0.0:
            greedy = np.zeros(logits.shape[-1])
            greedy[int(np.argmax(logits))] = 1.0
            return greedy
        # The exponential runs in float32 (half the time); sums and ratios in float64.
        z = logits - logits.max()
        if self.temperature != 1.0:
            z *= np.float32(1.0 / self.temperature)
        p: FloatArray = np.exp(z, out=z).astype(np.float64)
        if 0 < self.top_k < p.size or self.top_p < 1.0:
            p = self._filtered(p)
        p /= p.sum()
        return p

    def _filtered(self, p: FloatArray) -> FloatArray:
        """Zero what top-k and top-p leave out of unnormalised p `[V]`."""
        order = np.argsort(-p, kind="stable")
        if 0 < self.top_k < p.size:
            order = order[: self.top_k]
        if self.top_p < 1.0:
            mass = np.cumsum(p[order])
            # The token that carries the sum over top_p still belongs to the set.
            order = order[: int(np.searchsorted(mass, self.top_p * mass[-1])) + 1]
        kept = np.zeros_like(p)
        kept[order] = p[order]
        return kept


def draw(p: FloatArray, u: float) -> int:
    """Return the token whose interval of the cumulative sum of p `[V]` holds u · Σp, u in (0, 1).

    p need not be normalised. A token of zero mass is never returned.
    """
    cumulative = np.cumsum(p)
    # Rounding may put u · total past the last sum: fall back to the last token that has mass.
    token = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    if token >= p.size or p[token] == 0.0:
        token = int(np.flatnonzero(p)[-1]) if token >= p.size else token + int(np.flatnonzero(p[token:])[0])
    return token


def race(p: FloatArray, exponentials: FloatArray) -> int:
    """Return argmin(E/p): an exact draw from p `[V]` when E `[V]` are unit exponentials (the Gumbel-max draw).

    A token of zero mass is never returned.
    """
    return int(np.argmax(p / exponentials))
