"""Intervals for what is not a mean: a statistic of sums over tokens, by the bootstrap over prompts.

    S_b = Σ_p w_bp · S_p,   w_b ~ multinomial(P; 1/P … 1/P),   interval = 2.5 and 97.5 percentiles of f(S_b)

S_p are the sums of a prompt's tokens. Slopes, ratios and correlations are functions of such sums, so a resample costs
one product of matrices. Prompts are resampled, not tokens: tokens of one answer are not independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_evaluation.quality.bootstrap import RESAMPLES, Interval

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Statistics of the whole sample, each with its resamples.

    Attributes:
        point: `[...]`.
        draws: `[resample, ...]`.
    """

    point: FloatArray
    draws: FloatArray

    @property
    def interval(self) -> Interval:
        """The 95 % interval of a single statistic; resamples in which it does not exist are left out."""
        low, high = np.nanpercentile(self.draws, (2.5, 97.5))
        return Interval(float(self.point), float(low), float(high))

    def intervals(self) -> list[Interval]:
        """Return those of statistics `[m]`."""
        low, high = np.nanpercentile(self.draws, (2.5, 97.5), axis=0)
        return [Interval(*map(float, values)) for values in zip(self.point, low, high, strict=True)]


class Resampler:
    """Draws resamples of the prompts once; every statistic is taken over the same ones, so they can be compared.

    Attributes:
        prompts: how many there are.
    """

    def __init__(self, prompt: npt.NDArray[np.int32], seed: int = 0, resamples: int = RESAMPLES) -> None:
        """Prepare for tokens that belong to the prompts `[T]`."""
        _, index = np.unique(prompt, return_inverse=True)
        self._order = np.argsort(index, kind="stable")
        self._starts = np.searchsorted(index[self._order], np.arange(index.max() + 1))
        self.prompts = len(self._starts)
        generator = np.random.default_rng(seed % 2**64)
        self._weights = generator.multinomial(
            self.prompts, np.full(self.prompts, 1.0 / self.prompts), size=resamples
        ).astype(np.float64)

    def estimate(self, statistic: Callable[[FloatArray], FloatArray], *columns: npt.NDArray[np.generic]) -> Estimates:
        """Return a statistic of the sums of some columns.

        Args:
            statistic: takes the sums `[..., columns]`, returns `[...]`, or `[..., m]` for m statistics at once.
            columns: `[T]` or `[T, n]` each; an n-wide one fills n places of the sums.
        """
        table = np.column_stack([np.asarray(column, np.float64) for column in columns])
        sums = np.add.reduceat(table[self._order], self._starts, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return Estimates(statistic(sums.sum(axis=0)), statistic(self._weights @ sums))

    def mean(self, column: npt.NDArray[np.generic]) -> Interval:
        """Return the mean over tokens."""
        return self.estimate(lambda s: s[..., 1] / s[..., 0], np.ones(len(column)), column).interval

    def ratio(self, part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Interval | None:
        """Return Σ part ÷ Σ whole; None if the whole is zero."""
        if not whole.any():
            return None
        return self.estimate(lambda s: s[..., 0] / s[..., 1], part, whole).interval
