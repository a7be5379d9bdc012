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

# Logits this close to the largest are summed one by one, for each θ. Those further down are many and weigh little: of these
# only sums of yᵏ, y = exp(gap/8), are taken, and what is asked for is combined of them,
#     exp(gap/θ) ≈ Σ_k c_k(θ) · yᵏ,
# with c by least squares over all depths. However deep a token lies, this is off by 1.5e-5 of itself at the most, or, where it
# is below 2e-5, by 3.2e-10.
_NEAR = 10.0
_RATE = 0.125
_POWERS = np.array([2, 3, 4, 5, 6, 7, 8, 10])
_DEPTHS = -np.geomspace(_NEAR, 60.0, 64)
# Errors are to be small beside exp(gap/θ), and for the smallest of these beside 1.
_WEIGHTS = 1.0 / np.maximum(np.exp(0.6 * _DEPTHS), 1e-5)
_FIT = np.linalg.pinv(np.exp(np.outer(_DEPTHS, _RATE * _POWERS)) * _WEIGHTS[:, np.newaxis]) * _WEIGHTS

# In E_x[u], tokens less likely than this are left out: together they weigh no more, as Σ_d softmax(z/θ)_d = 1.
_NEGLIGIBLE = 1e-4

Logits = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]


class Estimator(enum.Enum):
    """How u is estimated."""

    EXPECTED = "expected"
    MONTE_CARLO = "monte-carlo"


class _Grid:
    """Temperatures θ, `[N]`, and what does not depend on logits."""

    def __init__(self, temperatures: FloatArray) -> None:
        self.temperatures = temperatures
        # Exponentials in float32: four times as fast, and 1e-7 is far within the bound.
        self.inverse = (1.0 / temperatures[:, np.newaxis]).astype(np.float32)
        # c, `[N, powers]`.
        self.combination = (_FIT @ np.exp(np.outer(_DEPTHS, 1.0 / temperatures))).T


_MIDPOINTS = _Grid(MIDPOINTS)


def draft_probabilities(z: Logits, d: int, temperatures: FloatArray) -> FloatArray:
    """Return softmax(z/θ)_d for each θ ≤ 2, `[N]`, given raw logits z `[V]`; each within 2e-5 of the full sum.

    (For V up to 50,000, wherever logits lie; at the worst 4e-10 more for each token beyond.)
    """
    return _probabilities(z, d, _Grid(temperatures))


def _probabilities(z: Logits, d: int, grid: _Grid) -> FloatArray:
    gap = z - z.max()
    probabilities: FloatArray = np.exp(float(gap[d]) / grid.temperatures) / _totals(gap, grid)
    return probabilities


def expected_before(z: Logits, x: FloatArray) -> float:
    """Return E_x[u(d)] over d ~ x `[V]`, given raw logits z `[V]`: one pass, no draw, at most 1.2e-4 above the full sum."""
    gap = z - z.max()
    likely = np.flatnonzero(x > _NEGLIGIBLE)
    # [N]: Σ_d x_d·exp(gap_d/θ_n) in one product.
    weights = np.exp(gap[likely] * _MIDPOINTS.inverse) @ x[likely]
    return float(1.0 - (weights / _totals(gap, _MIDPOINTS)).mean())


def _totals(gap: Logits, grid: _Grid) -> FloatArray:
    """Return Σ_d exp(gap_d/θ) for each θ, `[N]`, given logits less their largest, `[V]`, which are overwritten.

    N sums over V exponentials would cost a tenth of a small model's forward.
    """
    where = (gap > -_NEAR).nonzero()[0]
    near = gap[where] * grid.inverse
    np.exp(near, out=near)
    # Not summed again.
    gap[where] = -np.inf
    total: FloatArray = grid.combination @ _power_sums(gap)
    total += np.add.reduce(near, axis=1)
    return total


def _power_sums(gap: Logits) -> list[np.float32]:
    """Return Σ yᵏ, y = exp(gap/8), for each k of `_POWERS`, given gaps `[V]`, which are overwritten.

    One exponential a token and three products: a product of two powers is summed as it is made.
    """
    y = np.multiply(gap, np.float32(_RATE), out=gap)
    np.exp(y, out=y)
    y2 = y * y
    y3 = y2 * y
    sums = [y.dot(y), y.dot(y2), y2.dot(y2), y2.dot(y3), y3.dot(y3)]
    y5 = np.multiply(y2, y3, out=y)
    return [*sums, y2.dot(y5), y3.dot(y5), y5.dot(y5)]


def expected(z: Logits, d: int) -> float:
    """Return u of draft d as its expectation over θ ~ U(0, 2], given raw logits z `[V]`."""
    return float(1.0 - _probabilities(z, d, _MIDPOINTS).mean())


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
