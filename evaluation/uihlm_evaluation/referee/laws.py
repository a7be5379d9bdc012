"""How likely a sample is under a law, and how well the law fits it.

    log P(sample | law) = Σ_cells counts · log q          where each token depends on the two before it
    log P(sample | defect) = log mean_variants P(sample | variant)

A defect has variants (which k, which share …); none is favoured, so that many of them are no advantage. A loop with drafts
in blocks writes bonus tokens that its judge never saw: so each variant comes undiluted and mixed with y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from uihlm_evaluation.referee.sample import Sample
from uihlm_evaluation.referee.stage import FloatArray, Stage

# Of y, in what is written.
DILUTIONS = (0.0, 0.15, 0.3, 0.45)
# A law's zeros are not taken at their word: rounding, or a second small defect, must not rule the first out.
_DOUBT = 1e-3

# x and y [V] → q [V] or [variant, V]
Step = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a law says of a sample.

    Attributes:
        log: log P(sample | defect), nats.
        table: q of the likeliest variant, `[before last, last, token]`; None for a law of whole answers.
    """

    log: float
    table: FloatArray | None


class Law(Protocol):
    """What a defect makes of x and y."""

    def likelihood(self, sample: Sample, stage: Stage) -> Likelihood:
        """Return how likely a sample is."""

    def tables(self, stage: Stage) -> FloatArray | None:
        """Return q of every undiluted variant `[variant, before last, last, token]`; None for a law of whole answers."""


@dataclass(frozen=True, slots=True)
class StepLaw:
    """A law of one step, given the last token."""

    step: Step
    dilutions: tuple[float, ...] = DILUTIONS

    def likelihood(self, sample: Sample, stage: Stage) -> Likelihood:
        """Return how likely a sample is."""
        return likeliest(sample, self.tables(stage), stage, self.dilutions)

    def tables(self, stage: Stage) -> FloatArray:
        """Return q of every variant, the same whatever the token before the last."""
        rows = [np.atleast_2d(self.step(x, y)) for x, y in zip(stage.x, stage.y, strict=True)]
        by_last = np.stack(rows, axis=1)
        return np.broadcast_to(by_last[:, None], (len(by_last), len(stage.y), *by_last.shape[1:]))


@dataclass(frozen=True, slots=True)
class StaleLaw:
    """A law of one step that is given another row than that of the last token: one position late."""

    step: Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]

    def likelihood(self, sample: Sample, stage: Stage) -> Likelihood:
        """Return how likely a sample is."""
        return likeliest(sample, self.tables(stage), stage, DILUTIONS)

    def tables(self, stage: Stage) -> FloatArray:
        """Return q by the last two tokens: step(x, y, x before, y before)."""
        size = range(len(stage.y))
        rows = [[self.step(stage.x[b], stage.y[b], stage.x[a], stage.y[a]) for b in size] for a in size]
        return np.stack([np.stack(row) for row in rows])[None]


def likeliest(sample: Sample, tables: FloatArray, stage: Stage, dilutions: tuple[float, ...]) -> Likelihood:
    """Return the likelihood of variants `[variant, before last, last, token]`, each diluted with y."""
    logs, best, found = [], -np.inf, tables[0]
    for table in tables:
        for share in dilutions:
            mixed = (1.0 - share) * table + share * stage.y
            log = float((sample.counts * np.log((1.0 - _DOUBT) * mixed + _DOUBT / mixed.shape[-1])).sum())
            logs.append(log)
            if log > best:
                best, found = log, mixed
    return Likelihood(log_mean(np.array(logs)), found)


def log_mean(logs: FloatArray) -> float:
    """Return log mean exp."""
    top = float(logs.max())
    return top + float(np.log(np.mean(np.exp(logs - top))))
