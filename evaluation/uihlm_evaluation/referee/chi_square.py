"""Is a sample distributed as y? A chi-square test with its false-alarm rate and its power.

X² = Σ_cells (n − N·y)² / (N·y),   cells (last token, token), N tokens after that last token;  freedom: contexts · (V − 1)
p = P(X² at least this large) by the Pearson III law that has the cumulants of X² at these N
    κ₁ = k − 1,  κ₂ = 2(k − 1) + (R − k² − 2k + 2)/N
    κ₃ = 8(k − 1) + (22R − 18k² − 36k + 32)/N + (S − 3Rk − 22R + 2k³ + 18k² + 28k − 24)/N²
    a context of N tokens and k cells, R = Σ 1/y, S = Σ 1/y²; contexts add up. As N grows that is the chi-square law.
power against q = P(X²' > critical),  X²' non-central with  λ = N · Σ_last π(last) Σ_t (q_t − y_t)² / y_t
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from uihlm_evaluation.referee.stage import FloatArray, Stage

# A right loop is called wrong once in so many tries; with a fixed seed it is so once, or never.
FALSE_ALARM = 1e-6
# A cell that is expected less often than this is none: X² would be ruled by what does not happen.
_NEVER = 1e-6
POWER = 0.999


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the test says.

    Attributes:
        statistic: X².
        freedom: degrees of it.
        p_value: P(X² at least this large | law), for as few tokens as there are.
    """

    statistic: float
    freedom: int
    p_value: float


def chi_square(counts: FloatArray, table: FloatArray) -> Outcome:
    """Return the test of counts `[..., token]` against q of the same shape.

    Where a token came up that has no mass, or next to none, p is the chance of any such: 0, or next to it.
    """
    from scipy import stats

    seen = counts.sum(axis=-1) > 0.0
    n, q = counts[seen], np.broadcast_to(table, counts.shape)[seen]
    expected = n.sum(axis=-1, keepdims=True) * q
    able = expected > _NEVER
    if n[~able].any():
        return Outcome(math.inf, int(able.sum()) - len(n), float(expected[~able].sum()))
    statistic = float(((n - expected)[able] ** 2 / expected[able]).sum())
    freedom = int(able.sum()) - len(n)
    variance, third = _cumulants(n.sum(axis=-1), np.where(able, q, 0.0))
    if variance <= 0.0:
        # Whatever such tokens are, X² is the same.
        return Outcome(statistic, freedom, 1.0)
    deviation, skewness = (statistic - freedom) / math.sqrt(variance), third / variance**1.5
    return Outcome(statistic, freedom, float(stats.pearson3.sf(deviation, skewness)))


def _cumulants(tokens: FloatArray, table: FloatArray) -> tuple[float, float]:
    """Return κ₂ and κ₃ of X² of `tokens` `[context]` drawn by q `[context, token]`, zeros being no cells.

    From the factorial moments of a multinomial, E (n_a)_i (n_b)_j … = (N)_{i+j+…} q_aⁱ q_bʲ …, all terms but these cancel.
    """
    able = table > 0.0
    inverse = np.divide(1.0, table, out=np.zeros_like(table), where=able)
    k, r, s = able.sum(axis=-1), inverse.sum(axis=-1), (inverse**2).sum(axis=-1)
    second = 2 * (k - 1) + (r - k**2 - 2 * k + 2) / tokens
    third = (
        8 * (k - 1)
        + (22 * r - 18 * k**2 - 36 * k + 32) / tokens
        + (s - 3 * r * k - 22 * r + 2 * k**3 + 18 * k**2 + 28 * k - 24) / tokens**2
    )
    return float(second.sum()), float(third.sum())


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
