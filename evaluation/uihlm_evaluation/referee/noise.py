"""The law of the token that one step writes when two draws share noise they must not share.

A draw by inversion gives token t the piece of (0, 1) between two cumulative sums; of two draws with one number the pieces
overlap:

    P(t, s) = |piece_t(p) ∩ piece_s(q)|

A race gives the token with the smallest E/p, E exponential; the joint law of two races with one E is an integral in
closed form.
"""

from __future__ import annotations

import functools

import numpy as np

from uihlm_evaluation.referee.stage import FloatArray
from uihlm_evaluation.referee.steps import emitted, ratio, residual

# Of the one law that is only simulated: enough for a relative error of 1 or 2 % in every cell.
_DRAWS = 100_000


def pieces(p: FloatArray) -> FloatArray:
    """Return where each token's piece of (0, 1) begins and ends, `[V, 2]`."""
    ends = np.concatenate([[0.0], np.cumsum(p / p.sum())])
    return np.stack([ends[:-1], ends[1:]], axis=1)


def overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the common length of pieces `[n, 2]` and `[m, 2]`, `[n, m]`."""
    low = np.maximum(a[:, None, 0], b[None, :, 0])
    high = np.minimum(a[:, None, 1], b[None, :, 1])
    lengths: FloatArray = np.maximum(high - low, 0.0)
    return lengths


def acceptance_shares_draft(x: FloatArray, y: FloatArray) -> FloatArray:
    """One number draws d and judges it: u ≤ y_d/x_d, or 1 − u."""
    drawn, accept, weights = pieces(x), ratio(x, y), residual(x, y)
    low = np.stack([np.zeros(x.size), accept], axis=1)
    high = np.stack([1.0 - accept, np.ones(x.size)], axis=1)
    return np.stack([emitted(x, overlap(drawn, stand).diagonal() / x, weights) for stand in (low, high)])


def residual_shares_draft(x: FloatArray, y: FloatArray) -> FloatArray:
    """One number draws d and its replacement."""
    return emitted(x, ratio(x, y), overlap(pieces(x), pieces(residual(x, y))))


def residual_shares_acceptance(x: FloatArray, y: FloatArray) -> FloatArray:
    """One number judges d, which fell because it was large, and draws the replacement; or it fell because 1 − u was."""
    accept = ratio(x, y)
    drawn = pieces(residual(x, y))
    above = np.stack([accept, np.ones(x.size)], axis=1)
    below = np.stack([np.zeros(x.size), 1.0 - accept], axis=1)
    return np.stack([emitted(x, accept, overlap(fell, drawn)) for fell in (above, below)])


def residual_shares_race(x: FloatArray, y: FloatArray) -> FloatArray:
    """The exponentials that d won with race the residual too.

    With E_d = a and E_j = s·a:  P(d wins x, j wins r) = ∫ ds / g(s)² over s ≥ x_j/x_d,
    g(s) = 1 + s + Σ_{i≠d,j} max(x_i/x_d, s·r_i/r_j).
    """
    r = residual(x, y)
    joint = np.zeros((x.size, x.size))
    for d in range(x.size):
        for j in np.flatnonzero(r):
            others = (np.arange(x.size) != d) & (np.arange(x.size) != j)
            if j != d:
                joint[d, j] = _raced(x[others] / x[d], r[others] / r[j], x[j] / x[d])
    return emitted(x, ratio(x, y), joint)


def _raced(flat: FloatArray, slope: FloatArray, start: float) -> float:
    """Return ∫ ds / (1 + s + Σ max(flat, s·slope))² from `start` to infinity; between bends the integrand is 1/(a + b·s)²."""
    with np.errstate(divide="ignore"):
        bends = np.where(slope > 0.0, flat / slope, np.inf)
    edges = np.unique(np.concatenate([[start], bends[np.isfinite(bends) & (bends > start)]]))
    total = 0.0
    for number, low in enumerate(edges):
        rising = bends <= low
        a, b = 1.0 + flat[~rising].sum(), 1.0 + slope[rising].sum()
        end = 1.0 / (a + b * edges[number + 1]) if number + 1 < len(edges) else 0.0
        total += (1.0 / (a + b * low) - end) / b
    return float(total)


@functools.cache
def _exponentials(size: int) -> FloatArray:
    return np.random.default_rng(20260101).exponential(size=(_DRAWS, size))


def race_shifted(x: FloatArray, y: FloatArray) -> FloatArray:
    """Coupled judge: where the draft loses, it is left out, and the others race by place in the list; simulated."""
    noise = _exponentials(x.size)
    draft, own = (noise / x).argmin(axis=1), (noise / y).argmin(axis=1)
    counts = np.bincount(own[own == draft], minlength=x.size).astype(np.float64)
    for d in range(x.size):
        lost = (draft == d) & (own != d)
        others = np.flatnonzero(np.arange(x.size) != d)
        winners = others[(noise[lost, : others.size] / y[others]).argmin(axis=1)]
        counts += np.bincount(winners, minlength=x.size)
    law: FloatArray = counts / counts.sum()
    return law
