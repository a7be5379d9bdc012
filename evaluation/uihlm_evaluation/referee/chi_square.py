"""Is a sample distributed as y? A chi-square test with its false-alarm rate and its power.

X² = Σ_cells (n − N·y)² / (N·y),   cells (last token, token), N tokens after that last token;  freedom: contexts · (V − 1)
power against q = P(X²' > critical),  X²' non-central with  λ = N · Σ_last π(last) Σ_t (q_t − y_t)² / y_t
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from uihlm_evaluation.referee.stage import FloatArray, Stage

# A right loop is called wrong once in so many tries; with a fixed seed it is so once, or never.
FALSE_ALARM = 1e-6
POWER = 0.999


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the test says.

    Attributes:
        statistic: X².
        freedom: degrees of it.
        p_value: P(X² at least this large | law).
    """

    statistic: float
    freedom: int
    p_value: float


def chi_square(counts: FloatArray, table: FloatArray) -> Outcome:
    """Return the test of counts `[..., token]` against q of the same shape; a token of no mass that came up has p = 0."""
    from scipy import stats

    seen = counts.sum(axis=-1) > 0.0
    n, q = counts[seen], np.broadcast_to(table, counts.shape)[seen]
    expected = n.sum(axis=-1, keepdims=True) * q
    able = expected > 0.0
    if n[~able].any():
        return Outcome(math.inf, int(able.sum()) - len(n), 0.0)
    statistic = float(((n - expected)[able] ** 2 / expected[able]).sum())
    freedom = int(able.sum()) - len(n)
    return Outcome(statistic, freedom, float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0)


def power(stage: Stage, table: FloatArray, tokens: int, false_alarm: float = FALSE_ALARM) -> float:
    """Return how surely a loop that writes by q `[last, token]` is caught with so many tokens."""
    from scipy import stats

    freedom = len(stage.y) * (stage.y.shape[1] - 1)
    critical = stats.chi2.isf(false_alarm, freedom)
    return float(stats.ncx2.sf(critical, freedom, tokens * distance(stage, table)))


def distance(stage: Stage, table: FloatArray) -> float:
    """Return the mean of Σ (q − y)²/y over the contexts that a loop which writes by q `[last, token]` comes to."""
    here = np.full(len(table), 1.0 / len(table))
    for _ in range(200):
        # Half a step: a law that goes round in a circle settles too.
        here = 0.5 * here + 0.5 * here @ table
    return float(here @ ((table - stage.y) ** 2 / stage.y).sum(axis=1))


def smallest_share(stage: Stage, tokens: int, false_alarm: float = FALSE_ALARM, wanted: float = POWER) -> float:
    """Return the least share of unverified drafts in the output that is caught with power `wanted`; 1 if none is."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2.0
        caught = power(stage, share * stage.x + (1.0 - share) * stage.y, tokens, false_alarm) >= wanted
        low, high = (low, share) if caught else (share, high)
    return high
