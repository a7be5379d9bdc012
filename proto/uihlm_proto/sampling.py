"""From logits to a distribution, and from a distribution to a token: the one convention of both ends.

    p = normalise(top_p(top_k(softmax(z / T))))        z raw logits, T temperature

Temperature first, then top-k, then top-p, then one normalisation; ties at a cut fall to the lower id. T = 0 is greedy: all
mass on the largest logit (lowest id on a tie). The uncertainty u of a draft does not pass through here: it is taken on z.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import to_uniform

FloatArray = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]

# Tokens less likely than this share of the likeliest enter a race only if their word is large enough to win it.
_UNLIKELY = 1e-3
_LOG_UNLIKELY = math.log(_UNLIKELY)

# Below this many tokens the full race costs less than choosing who takes part.
_SMALL = 1024

# 1/T beyond this changes no float32 logit's fate and would only overflow.
_STEEPEST = 1e30

# Tokens summed at once by `draw`.
_BLOCK = 256


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
        p = self._weights(logits, float(np.maximum.reduce(logits)))
        k = self.top_k if 0 < self.top_k < p.size else None
        if k is not None or self.top_p < 1.0:
            p = _filtered(p, k, self.top_p)
        # One quotient, not V; and the sum without the method, which is Python that calls this.
        p *= 1.0 / np.add.reduce(p)
        return p

    def race(self, logits: Logits, words: npt.NDArray[np.uint64]) -> int:
        """Return the winner of `race(self.distribution(logits), words)`, with exponentials only of tokens that can win."""
        if self.temperature == 0.0 or self.top_k or self.top_p < 1.0 or logits.size <= _SMALL:
            return race(self.distribution(logits), words)
        temperature = max(self.temperature, 1.0 / _STEEPEST)
        top = float(np.maximum.reduce(logits))
        floor = np.float32(top + max(temperature * _LOG_UNLIKELY, -_STEEPEST))
        # What lies below the floor weighs less than the floor, as float32 has rounded it; an exponential is rounded too.
        bound = 1.01 * math.exp((float(floor) - top) / temperature)
        return _raced((logits >= floor).nonzero()[0], lambda ids: self._weights(logits[ids], top), bound, words)

    def probability(self, logits: Logits, token: int) -> float:
        """Return `distribution(logits)[token]`, to the last bit, without making the quotients of all others."""
        if self.temperature == 0.0 or self.top_k or self.top_p < 1.0:
            return float(self.distribution(logits)[token])
        weights = self._weights(logits, float(np.maximum.reduce(logits)))
        return float(weights[token] * (1.0 / np.add.reduce(weights)))

    def _weights(self, logits: Logits, top: float) -> FloatArray:
        """Return exp((logits − top) / T): in float32, which takes half the time; sums and ratios of it are float64's."""
        z = logits - top
        if self.temperature != 1.0:
            z *= min(1.0 / self.temperature, _STEEPEST)
        weights: FloatArray = np.exp(z, out=z).astype(np.float64)
        return weights


@dataclass(frozen=True, slots=True)
class Row:
    """What a model says of one position: raw logits `[V]` and a contract, shaped no further than somebody asks."""

    logits: Logits
    sampling: Sampling

    def distribution(self) -> FloatArray:
        """Return the distribution sampled from, `[V]`."""
        return self.sampling.distribution(self.logits)

    def race(self, words: npt.NDArray[np.uint64]) -> int:
        """Return the winner of `race(self.distribution(), words)`."""
        return self.sampling.race(self.logits, words)

    def probability(self, token: int) -> float:
        """Return one token's share of the distribution."""
        return self.sampling.probability(self.logits, token)


def _filtered(p: FloatArray, k: int | None, top_p: float) -> FloatArray:
    """Return unnormalised p `[V]` with zeros for what top-k (None: keep all) and top-p leave out."""
    # Only what can be kept is sorted: a full sort of V = 49,152 takes as long as a small model's forward.
    if k is not None:
        floor = float(np.partition(p, p.size - k)[p.size - k])
    else:
        # All tokens below this share together weigh less than 1 − top_p.
        floor = (1.0 - top_p) * float(p.sum()) / p.size
    able = np.flatnonzero(p >= floor)
    order = able[np.argsort(-p[able], kind="stable")][:k]
    if top_p < 1.0:
        mass = np.cumsum(p[order])
        total = float(mass[-1]) if k is not None else float(p.sum())
        # The token that carries the sum over top_p still belongs to the set.
        order = order[: int(np.searchsorted(mass, top_p * total)) + 1]
    kept = np.zeros_like(p)
    kept[order] = p[order]
    return kept


def draw(p: FloatArray, u: float) -> int:
    """Return the token whose interval of the cumulative sum of p `[V]` holds u · Σp, u in (0, 1).

    p need not be normalised. A token of zero mass is never returned.
    """
    # Sums of blocks first, then within the one block that holds the token: a third of the time of one long sum.
    ends = np.add.reduceat(p, _starts(p.size)).cumsum()
    target = u * ends[-1]
    block = int(ends.searchsorted(target, side="right"))
    start = block * _BLOCK
    inside = p[start : start + _BLOCK].cumsum()
    token = start + int(inside.searchsorted(target - (ends[block - 1] if block else 0.0), side="right"))
    # Rounding may put the target past a block's last sum, or past all: fall to the next token that has mass, or the last.
    if token >= p.size or p[token] == 0.0:
        later = np.flatnonzero(p[token:])
        token = token + int(later[0]) if later.size else int(np.flatnonzero(p)[-1])
    return token


@functools.cache
def _starts(size: int) -> npt.NDArray[np.intp]:
    return np.arange(0, size, _BLOCK)


def race(p: FloatArray, words: npt.NDArray[np.uint64]) -> int:
    """Return argmin(E/p), E = -log U: an exact draw from p `[V]`, given one random word a token, `[V]`.

    This is the Gumbel-max draw with one logarithm. Logarithms are taken only where they can matter: token i beats the best
    ratio r of the likely ones only if  1 - U_i < p_i / r,  which most words are too small for. The result is that of the
    full race, ties to the lower id; a token of zero mass never wins.
    """
    if p.size <= _SMALL:
        return int((p / _exponentials(words)).argmax())
    bound = float(np.maximum.reduce(p)) * _UNLIKELY
    return _raced((p > bound).nonzero()[0], p.__getitem__, bound, words)


def _raced(
    likely: npt.NDArray[np.intp],
    mass: Callable[[npt.NDArray[np.intp]], FloatArray],
    bound: float,
    words: npt.NDArray[np.uint64],
) -> int:
    """Return the winner among the likely tokens, at least one, and those of at most `bound` whose words can beat them."""
    best, winner = _best(likely, mass, words)
    # Rounded down by far more than the rounding of U, so that no winner is missed.
    lowest = max(0.0, 1.0 - bound / best - 2.0**-40)
    lucky = (words >= np.uint64(int(lowest * 2.0**64))).nonzero()[0]
    if lucky.size:
        luckiest, other = _best(lucky, mass, words)
        if luckiest > best or (luckiest == best and other < winner):
            return other
    return winner


def _best(
    ids: npt.NDArray[np.intp], mass: Callable[[npt.NDArray[np.intp]], FloatArray], words: npt.NDArray[np.uint64]
) -> tuple[float, int]:
    """Return the largest ratio of mass to exponential among some tokens, and the lowest of the ids that have it."""
    ratios = mass(ids) / _exponentials(words[ids])
    place = int(ratios.argmax())
    return float(ratios[place]), int(ids[place])


def _exponentials(words: npt.NDArray[np.uint64]) -> FloatArray:
    """Return unit exponentials -log U of random words."""
    return -np.log(to_uniform(words))
