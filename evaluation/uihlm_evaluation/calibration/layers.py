"""How important every layer finds a draft token: `uihlm_device.rules.importance` over all layers, readings and γ at once.

    count[l, A, γ] = how many weights of layer l in reading A exceed max(A) − γ·std(A)

The `matrix` reading is left out: it needs every row of the sequence at every layer, and it nearly always passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_device.record import Float32Array
from uihlm_device.rules.importance import Readout, preceding

READOUTS = (Readout.HEADS, Readout.MEAN, Readout.MAX)
GAMMAS = (0.5, 1.0, 1.5)
KS = (3, 5, 7, 9, 11)


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """What every layer says of one draft token.

    Attributes:
        counts: weights above θ_imp, `[layer, readout, gamma]`.
        entropy_nat: entropy of the head-averaged row, in nats, `[layer]`.
        max_weight: largest weight of that row, `[layer]`.
    """

    counts: npt.NDArray[np.uint16]
    entropy_nat: Float32Array
    max_weight: Float32Array


def layer_statistics(attention: Float32Array, gammas: Sequence[float] = GAMMAS) -> LayerStatistics:
    """Return the statistics of the last token's rows `[layer, head, n]`, its own position included, n ≥ 2."""
    rows = preceding(attention)
    mean = rows.mean(axis=1)
    counts = [_counts(weights, gammas) for weights in (rows.reshape(len(rows), -1), mean, rows.max(axis=1))]
    logarithm = np.log(mean, out=np.zeros_like(mean), where=mean > 0)
    return LayerStatistics(np.stack(counts, axis=1), -(mean * logarithm).sum(axis=1), mean.max(axis=1))


def _counts(weights: Float32Array, gammas: Sequence[float]) -> npt.NDArray[np.uint16]:
    """Return `[layer, gamma]` of weights `[layer, m]`."""
    top = weights.max(axis=1).astype(np.float64)
    deviation = weights.std(axis=1).astype(np.float64)
    # In float32, as `importance` compares.
    thresholds = [(top - gamma * deviation).astype(np.float32) for gamma in gammas]
    return np.stack([(weights > t[:, None]).sum(axis=1) for t in thresholds], axis=1).astype(np.uint16)
