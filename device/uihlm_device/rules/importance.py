"""How important is a draft token in its context? Eq. (5)–(7) of arXiv:2508.12590.

    a[h, j]  attention of head h from the draft token to preceding token j, its own weight left out, rows renormalised
    θ_imp  = max(A) − γ·std(A)
    count  = how many weights exceed θ_imp;   important iff count ≥ k, that is iff the k-th largest does

What A is, the paper leaves open. Readings:

heads   all heads' weights of the layer, flattened (the default: the only one that resembles the paper's rates)
mean    mean over heads first
max     maximum over heads first
matrix  the literal Eq. (7): θ_imp from the draft token's row, the count over every row of the head-averaged L×L matrix
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

from uihlm_device.record import Float32Array, Wants

_TINY = np.finfo(np.float32).tiny


class Readout(enum.Enum):
    """What A is."""

    HEADS = "heads"
    MEAN = "mean"
    MAX = "max"
    MATRIX = "matrix"


@dataclass(frozen=True, slots=True)
class Importance:
    """What the drafter's attention says of a draft token.

    Attributes:
        count: weights above θ_imp.
        entropy_nat: entropy of the head-averaged row, in nats: the collapse of Fig. 2.
        max_weight: largest weight of the head-averaged row.
    """

    count: int
    entropy_nat: float
    max_weight: float


def wants(readout: Readout) -> Wants:
    """Return what the drafter must record for a reading."""
    return Wants(attention=True, attention_matrix=readout is Readout.MATRIX)


def preceding(attention: Float32Array) -> Float32Array:
    """Return weights on the preceding tokens `[..., n-1]`, renormalised, given rows `[..., n]` that end in the own one."""
    return _normalised(attention[..., :-1])


def _normalised(rows: Float32Array) -> Float32Array:
    """Return rows that sum to 1; one without any weight (a softmax can underflow) stays zero."""
    mass: Float32Array = np.maximum(np.add.reduce(rows, axis=-1, keepdims=True), _TINY)
    normalised: Float32Array = rows / mass
    return normalised


def importance(
    attention: Float32Array, gamma: float, readout: Readout = Readout.HEADS, matrix: Float32Array | None = None
) -> Importance:
    """Return the importance of the last token.

    Args:
        attention: its attention row, its own position included, `[head, n]`, n ≥ 2.
        gamma: γ of Eq. (6).
        readout: the reading of A.
        matrix: the head-averaged rows of all positions, `[n, n]`; needed by the `matrix` reading.
    """
    rows = preceding(attention)
    # A forward has thrown NumPy out of the caches: calls count here, not numbers, so there are few, and none that calls others.
    mean: Float32Array = np.add.reduce(rows, axis=0) / np.float32(len(rows))
    match readout:
        case Readout.HEADS:
            row = weights = rows
        case Readout.MEAN:
            row = weights = mean
        case Readout.MAX:
            row = weights = np.maximum.reduce(rows, axis=0)
        case Readout.MATRIX:
            assert matrix is not None, "the matrix reading needs the drafter's attention matrix"
            row = mean
            weights = _all_rows(matrix)
    flat = row.reshape(-1)
    threshold = float(np.maximum.reduce(flat)) - gamma * _std(flat)
    return Importance(
        count=int(np.count_nonzero(weights > threshold)),
        # 0·log 0 is 0, and so is 0·log of the smallest float.
        entropy_nat=-float(mean.dot(np.log(mean + _TINY))),
        max_weight=float(np.maximum.reduce(mean)),
    )


def _std(values: Float32Array) -> float:
    centred = values - np.add.reduce(values) / np.float32(values.size)
    return math.sqrt(float(centred.dot(centred)) / values.size)


def _all_rows(matrix: Float32Array) -> Float32Array:
    """Return the renormalised weights of every row on its preceding tokens, flattened, `[n(n-1)/2]`."""
    rows = _normalised(np.tril(matrix, k=-1))
    return rows[np.tril_indices(len(rows), k=-1)]
