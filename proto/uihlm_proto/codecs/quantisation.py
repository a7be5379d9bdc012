"""From x to a grid's distribution x̂: the K likeliest tokens, their shares rounded to steps of 1/ℓ.

    p  = x on its K largest, renormalised                 ties to the lower id; δ = the mass dropped
    n  = ⌊ℓ·p⌋, then one more for the largest remainders  until Σn = ℓ; ties to the lower id
    x̂  = n / ℓ

Rounding by largest remainders is the nearest grid point to p. TV(x, x̂) ≤ δ + K/(4ℓ); the device, which holds x, measures
it: TV = Σ max(x − x̂, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_proto.codecs.protocol import FloatArray
from uihlm_proto.errors import InvalidRequestError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quantised:
    """x̂ on its support.

    Attributes:
        support: token ids, ascending, `[K]`.
        counts: n, `[K]`; zeros may be among them.
        total_variation: TV(x, x̂).
    """

    support: IntArray
    counts: IntArray
    total_variation: float


def likeliest(x: FloatArray, k: int) -> IntArray:
    """Return the ids of the k largest of x `[V]`, largest first, ties to the lower id, `[k]`.

    Raises:
        InvalidRequestError: if x has a value that is not finite, or no mass.
    """
    if not 0.0 < float(x.max()) < np.inf:
        raise InvalidRequestError("the drafter's x has a value that is not finite, or no mass: it cannot be quantised")
    floor = np.partition(x, x.size - k)[x.size - k]
    above = np.flatnonzero(x > floor)
    level = np.flatnonzero(x == floor)[: k - above.size]
    return np.concatenate([above[np.argsort(-x[above], kind="stable")], level])


def quantise(x: FloatArray, support: IntArray, steps: int) -> Quantised:
    """Round x `[V]` to ℓ = `steps` on the given support `[K]`, in any order."""
    support = np.sort(support)
    mass = x[support]
    kept = float(mass.sum())
    shares = mass * (steps / kept)
    counts = np.floor(shares)
    remainders = shares - counts
    short = steps - int(counts.sum())
    counts[np.argsort(-remainders, kind="stable")[:short]] += 1.0
    lost = max(0.0, 1.0 - kept) + float(np.maximum(mass - counts / steps, 0.0).sum())
    return Quantised(support, counts.astype(np.int64), lost)
