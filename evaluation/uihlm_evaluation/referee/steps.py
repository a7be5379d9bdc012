"""The law of the token that one step writes, under the right rule and under wrong ones.

    q_t = x_t·P(d = t stands) + Σ_d x_d·P(d falls)·P(t replaces d)

Each function takes x and y `[V]`, normalised and positive, and returns q `[V]`, or `[n, V]` for n variants. Nothing is
sampled here, so what a defect does to the output is known exactly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uihlm_evaluation.referee.stage import FloatArray

# The usual one first, as everywhere below.
LENIENCES = (2.0, 1.25, 1.5, 3.0, 5.0, 10.0)
SHARES = tuple(round(0.05 * step, 2) for step in range(1, 20))
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0)


def emitted(x: FloatArray, stands: FloatArray, weights: FloatArray) -> FloatArray:
    """Return q `[V]`.

    Args:
        x: the drafter's distribution `[V]`.
        stands: probability that draft d stands `[d]`.
        weights: of the replacement `[V]`, or `[d, V]` where it depends on the draft; a row without mass lets the draft stand.
    """
    rows = np.broadcast_to(weights, (x.size, x.size))
    mass = rows.sum(axis=1, keepdims=True)
    stands = np.where(mass[:, 0] > 0.0, stands, 1.0)
    replaced: FloatArray = np.divide(rows, mass, out=np.zeros(rows.shape), where=mass > 0.0)
    return x * stands + (x * (1.0 - stands)) @ replaced


def ratio(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return min(1, y/x) `[V]`."""
    return np.minimum(1.0, y / x)


def residual(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return max(y − x, 0) `[V]`."""
    return np.maximum(y - x, 0.0)


def top(p: FloatArray, k: int) -> npt.NDArray[np.bool_]:
    """Mark the k likeliest tokens `[V]`."""
    kept = np.zeros(p.size, np.bool_)
    kept[np.argsort(-p, kind="stable")[:k]] = True
    return kept


def right(x: FloatArray, y: FloatArray) -> FloatArray:
    """The rule as it should be; q = y."""
    return emitted(x, ratio(x, y), residual(x, y))


def unverified(x: FloatArray, y: FloatArray) -> FloatArray:
    """Every draft stands; then a share of them does."""
    return np.stack([x, *(share * x + (1.0 - share) * y for share in reversed(SHARES))])


def inverted(x: FloatArray, y: FloatArray) -> FloatArray:
    """The draft stands with min(1, x/y)."""
    return emitted(x, ratio(y, x), residual(x, y))


def lenient(x: FloatArray, y: FloatArray) -> FloatArray:
    """The draft stands with min(1, c·y/x)."""
    return np.stack([emitted(x, np.minimum(1.0, c * y / x), residual(x, y)) for c in LENIENCES])


def typical(x: FloatArray, y: FloatArray) -> FloatArray:
    """The draft stands wherever y_d is above a bar, and is replaced by a draw from y or from the residual elsewhere."""
    levels = np.unique(y)
    bars = (levels[1:] + levels[:-1]) / 2.0
    return np.stack([emitted(x, (y > bar).astype(float), weights) for bar in bars for weights in (y, residual(x, y))])


def truncated(x: FloatArray, y: FloatArray) -> FloatArray:
    """x is cut to its k likeliest after d was drawn; d outside is kept along, or stands, or falls."""
    laws = []
    for k in range(2, x.size):
        kept = top(x, k)
        cut = np.where(kept, x, 0.0) / x[kept].sum()
        fall = np.minimum(1.0, np.divide(y, cut, out=np.zeros(x.size), where=kept))
        along = np.where(kept | np.eye(x.size, dtype=np.bool_), x, 0.0)
        along /= along.sum(axis=1, keepdims=True)
        laws += [
            emitted(x, np.minimum(1.0, y / along.diagonal()), np.maximum(y - along, 0.0)),
            emitted(x, np.where(kept, fall, 1.0), residual(cut, y)),
            emitted(x, fall, residual(cut, y)),
        ]
    return np.stack(laws)


def quantised(x: FloatArray, y: FloatArray) -> FloatArray:
    """x is put on a grid of ℓ counts over its k likeliest after d was drawn, with a count for d."""
    laws = []
    for k, steps in ((4, 16), (4, 32), (6, 16), (6, 32), (8, 16), (8, 32), (8, 64)):
        grids = np.stack([_counted(x, d, k, steps) for d in range(x.size)])
        laws.append(emitted(x, np.minimum(1.0, y / grids.diagonal()), np.maximum(y - grids, 0.0)))
    return np.stack(laws)


def _counted(x: FloatArray, d: int, k: int, steps: int) -> FloatArray:
    """Return the nearest grid point by largest remainders whose support holds d."""
    support = np.argsort(-x, kind="stable")[:k]
    if d not in support:
        support[-1] = d
    shares = x[support] / x[support].sum() * steps
    counts = np.floor(shares)
    counts[np.argsort(-(shares - counts), kind="stable")[: round(float(steps - counts.sum()))]] += 1.0
    place = int(np.flatnonzero(support == d)[0])
    if counts[place] == 0.0:
        counts[place] += 1.0
        counts[counts.argmax()] -= 1.0
    grid = np.zeros(x.size)
    grid[support] = counts / steps
    return grid


def outside_stands(x: FloatArray, y: FloatArray) -> FloatArray:
    """Drafts outside the k likeliest of x stand unjudged."""
    accept = ratio(x, y)
    return np.stack([emitted(x, np.where(top(x, k), accept, 1.0), residual(x, y)) for k in range(2, x.size)])


def one_stands(x: FloatArray, y: FloatArray) -> FloatArray:
    """Drafts of one token stand unjudged."""
    accept, tokens = ratio(x, y), np.arange(x.size)
    return np.stack([emitted(x, np.where(tokens == t, 1.0, accept), residual(x, y)) for t in tokens])


def scalar_in_residual(x: FloatArray, y: FloatArray) -> FloatArray:
    """The residual is max(y − x_d, 0), one number for all of x."""
    return emitted(x, ratio(x, y), np.maximum(y[None, :] - x[:, None], 0.0))


def draft_alone_in_residual(x: FloatArray, y: FloatArray) -> FloatArray:
    """The residual knows x at d and takes it for 0 elsewhere."""
    return emitted(x, ratio(x, y), np.maximum(y[None, :] - np.diag(x), 0.0))


def spread_in_residual(x: FloatArray, y: FloatArray) -> FloatArray:
    """The judge mixes x with the uniform distribution that d was not drawn from."""
    seen = [(1.0 - share) * x + share / x.size for share in (0.2, 0.05, 0.1, 0.3, 0.5, 1.0)]
    return np.stack([emitted(x, ratio(other, y), residual(other, y)) for other in seen])


def from_y(x: FloatArray, y: FloatArray) -> FloatArray:
    """The replacement is drawn from y."""
    return emitted(x, ratio(x, y), y)


def absolute(x: FloatArray, y: FloatArray) -> FloatArray:
    """The residual is |y − x|."""
    return emitted(x, ratio(x, y), np.abs(y - x))


def from_logits(x: FloatArray, y: FloatArray) -> FloatArray:
    """The residual is max(log y − log x, 0), a difference of logits; or norm of its exponential."""
    return np.stack([emitted(x, ratio(x, y), weights) for weights in (np.maximum(np.log(y / x), 0.0), y / x)])


def greedy(x: FloatArray, y: FloatArray) -> FloatArray:
    """The likeliest token of y."""
    law: FloatArray = (np.arange(y.size) == np.argmax(y)).astype(np.float64)
    return law


def reshaped(x: FloatArray, y: FloatArray) -> FloatArray:
    """y at another temperature, cut to its k likeliest, or to those of mass p."""
    laws = [y ** (1.0 / t) for t in TEMPERATURES]
    laws += [np.where(top(y, k), y, 0.0) for k in range(2, y.size)]
    return np.stack([law / law.sum() for law in laws])
