"""How far a mean over prompts can be trusted: the percentile bootstrap.

    mean_b = (1/n) Σ_i v[J_bi],  J_bi uniform on 0 … n-1;  interval = 2.5 and 97.5 percentiles of mean_b, b = 1 … B

Prompts are resampled, not tokens: tokens of one answer are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError

RESAMPLES = 2000
_BLOCK = 4_000_000  # indices drawn at once: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2.0


def prompt_draws(prompts: int, seed: int = 0, resamples: int = RESAMPLES) -> npt.NDArray[np.float64]:
    """Return how often each prompt is drawn, `[resamples, prompts]`; each line sums to `prompts`.

    Raises:
        InvalidRequestError: without prompts.
    """
    if prompts < 1:
        raise InvalidRequestError("a bootstrap needs at least one prompt, got none")
    generator = np.random.default_rng(seed)
    return generator.multinomial(prompts, np.full(prompts, 1.0 / prompts), size=resamples).astype(np.float64)


def mean_interval(
    values: Sequence[float] | npt.NDArray[np.float64], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean of `values` `[n]` over prompts with its 95 % bootstrap interval, of length 0 for one value.

    Raises:
        InvalidRequestError: without values, with one that is not finite, or with less than one resample.
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or v.size == 0:
        raise InvalidRequestError(f"a bootstrap needs a list of at least one value, got shape {list(v.shape)}")
    if not np.isfinite(v).all():
        raise InvalidRequestError(f"a bootstrap needs finite values, got {v[~np.isfinite(v)][0]}")
    if resamples < 1:
        raise InvalidRequestError(f"resamples must be 1 or more, got {resamples}")
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _BLOCK // v.size)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        means[start:stop] = v[generator.integers(0, v.size, (stop - start, v.size))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(v.mean()), float(low), float(high))


def paired_difference(
    first: Sequence[float] | npt.NDArray[np.float64],
    second: Sequence[float] | npt.NDArray[np.float64],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of first - second `[n]`, same prompts in the same order, with its 95 % bootstrap interval.

    Pairing takes out what differs between prompts: the interval is far shorter than that of two separate means.

    Raises:
        InvalidRequestError: if the two lengths differ, and as `mean_interval`.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise InvalidRequestError(
            f"a paired difference needs the same prompts on both sides, got {a.size} and {b.size}"
        )
    return mean_interval(a - b, seed, resamples)
