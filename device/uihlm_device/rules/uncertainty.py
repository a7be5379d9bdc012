"""How uncertain is the drafter of its draft? Eq. (4) of arXiv:2508.12590.

    u = (1/N) Σ_n 1(d_n ≠ d),   d_n ~ softmax(z / θ_n)

z are the raw logits, before the sampling temperature and before top-k and top-p: only there does rejection grow linearly
with u. Two estimators:

monte-carlo  the paper's: N = 20, θ_n ~ U(0, 2]. Its u is a multiple of 1/N.
expected     its mean, without the noise: 1 − mean_n softmax(z/θ_n)_d with θ_n = 0.05, 0.15 … 1.95 (midpoint rule).

Before the draft is drawn, u is averaged over what it may be:  E_x[u] = 1 − Σ_d x_d · mean_n softmax(z/θ_n)_d.
"""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

from uihlm_proto.randomness import Role, uniforms

SAMPLES = 20
MAX_TEMPERATURE = 2.0
MIDPOINTS = np.array([(i + 0.5) * MAX_TEMPERATURE / SAMPLES for i in range(SAMPLES)])

# Logits this close to the largest are summed one by one; those further down are summed by bins, each at its mean. Within a
# bin of width w the error is of second order, (w/θ)²/8 at most, and where that is large the bins weigh nothing.
_NEAR = 2.0
_BINS_PER_UNIT = 64
# All deeper ones share the last: at a depth of 128 even the largest θ leaves e^-64 of a token.
_BINS = 128 * _BINS_PER_UNIT

# In E_x[u], tokens less likely than this are left out: together they weigh no more, as Σ_d softmax(z/θ)_d = 1.
_NEGLIGIBLE = 1e-4

Logits = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]


class Estimator(enum.Enum):
    """How u is estimated."""

    EXPECTED = "expected"
    MONTE_CARLO = "monte-carlo"


def draft_probabilities(z: Logits, d: int, temperatures: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return softmax(z/θ)_d for each θ, `[N]`, given raw logits z `[V]`; each within 2e-5 of the full sum.

    N sums over V exponentials would cost a tenth of a small model's forward, so the many unlikely tokens are binned first.
    """
    gap = z - z.max()
    probabilities: FloatArray = np.exp(float(gap[d]) / temperatures) / _totals(gap, temperatures)
    return probabilities


def expected_before(z: Logits, x: FloatArray) -> float:
    """Return E_x[u(d)] over d ~ x `[V]`, given raw logits z `[V]`: one pass, no draw, at most 1.2e-4 above the full sum."""
    gap = z - z.max()
    likely = np.flatnonzero(x > _NEGLIGIBLE)
    inverse = (1.0 / MIDPOINTS[:, np.newaxis]).astype(np.float32)
    # [N]: Σ_d x_d·exp(gap_d/θ_n) in one product.
    weights = np.exp(gap[likely] * inverse) @ x[likely]
    return float(1.0 - (weights / _totals(gap, MIDPOINTS)).mean())


def _totals(gap: Logits, temperatures: FloatArray) -> FloatArray:
    """Return Σ_d exp(gap_d/θ) for each θ, `[N]`, given logits less their largest, `[V]`, which are overwritten."""
    near = gap[(gap > -_NEAR).nonzero()[0]]
    # How deep below the largest, in bins.
    depth = np.multiply(gap, np.float32(-_BINS_PER_UNIT), out=gap)
    if not depth.max() < _BINS:
        np.minimum(depth, np.float32(_BINS - 1), out=depth)
    counts, depths = _binned(depth, int(_NEAR * _BINS_PER_UNIT))
    # Exponentials in float32: four times as fast, and 1e-7 is far within the bound.
    inverse = (1.0 / temperatures[:, np.newaxis]).astype(np.float32)
    total = np.exp(near * inverse).sum(axis=1, dtype=np.float64)
    means = (depths * (-1.0 / _BINS_PER_UNIT)).astype(np.float32)
    total += np.exp(means * inverse) @ counts.astype(np.float32)
    return np.asarray(total, np.float64)


def _binned(depth: Logits, first: int) -> tuple[FloatArray, FloatArray]:
    """Return how many depths, of `[V]`, fall between k and k + 1, and their mean, for each k ≥ first where there are any.

    One pass finds both: with B + depth for each of c tokens, B = 4 V, bin k sums to  c · (B + k) + f  where f, what they lie
    above k, is below c and so below B/4: c is the quotient, rounded. The rounding of sums in float64 moves no mean by more
    than 4 V² · 2⁻⁵³, a millionth of a bin for V = 49,152.
    """
    base = 4.0 * depth.size
    sums = np.bincount(depth.astype(np.intp), weights=np.add(depth, base, dtype=np.float64))[first:]
    filled = sums.nonzero()[0]
    sums = sums[filled]
    counts = np.rint(sums / (filled + (base + first)))
    return counts, sums / counts - base


def expected(z: Logits, d: int) -> float:
    """Return u of draft d as its expectation over θ ~ U(0, 2], given raw logits z `[V]`."""
    return float(1.0 - draft_probabilities(z, d, MIDPOINTS).mean())


def monte_carlo(z: Logits, d: int, key: bytes, position: int) -> float:
    """Return u of draft d as the paper samples it, a multiple of 1/20, given raw logits z `[V]`.

    Whether d_n differs from d is a coin of weight 1 − softmax(z/θ_n)_d, so the coin is tossed instead of the token. Draws
    are Philox(key, MONTE_CARLO, position): N temperatures, then N coins.
    """
    numbers = uniforms(key, Role.MONTE_CARLO, position, 2 * SAMPLES)
    same = draft_probabilities(z, d, MAX_TEMPERATURE * numbers[:SAMPLES])
    return float((numbers[SAMPLES:] > same).mean())


def uncertainty(estimator: Estimator, z: Logits, d: int, key: bytes, position: int) -> float:
    """Return u of draft d by the chosen estimator."""
    return expected(z, d) if estimator is Estimator.EXPECTED else monte_carlo(z, d, key, position)
