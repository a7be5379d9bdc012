"""From the law to a threshold: upload where the line says that rejection is likelier than Δ allows.

    a·θ_u + b = Δ   ⇔   θ_u = (Δ − b)/a

risk-averse       Δ = 0: skips only tokens that the line says are never rejected
risk-prone        Δ = mean rejection probability
risk-prone-below  Δ = P(y_d < x_d), the share of drafts that can be rejected at all
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from uihlm_evaluation.calibration.law import moments, slope_intercept
from uihlm_evaluation.calibration.resampling import FloatArray, Resampler
from uihlm_evaluation.calibration.trace import Trace
from uihlm_evaluation.quality.bootstrap import Interval


class Threshold(enum.StrEnum):
    """Which Δ."""

    RISK_AVERSE = "risk-averse"
    RISK_PRONE = "risk-prone"
    RISK_PRONE_BELOW = "risk-prone-below"


@dataclass(frozen=True, slots=True)
class ThresholdOutcome:
    """A threshold and what it would have done to the traced tokens.

    Attributes:
        name: which Δ.
        delta: Δ.
        theta_u: (Δ − b)/a, its interval from resampled a, b and Δ; None where a ≤ 0, so that none exists.
        upload_rate: share of tokens with u > θ_u.
        reject_rate: mean rejection probability of those; None if there are none.
        risk: rejection probabilities of the skipped tokens, summed, ÷ all tokens.

    The last three are of the point estimate of θ_u, which is what a run is given; None where there is none.
    """

    name: Threshold
    delta: Interval
    theta_u: Interval | None
    upload_rate: Interval | None
    reject_rate: Interval | None
    risk: Interval | None


def threshold(a: float, b: float, delta: float) -> float | None:
    """Return θ_u = (Δ − b)/a; None where rejection does not grow with u."""
    return (delta - b) / a if a > 0.0 else None


def outcomes(trace: Trace, resampler: Resampler) -> tuple[ThresholdOutcome, ...]:
    """Return the three thresholds of a trace, in the order above."""
    u, beta = trace.exact_u, trace.reject_prob.astype(np.float64)
    below = (trace.y_d < trace.x_d).astype(np.float64)
    deltas = {
        Threshold.RISK_AVERSE: np.zeros_like(beta),
        Threshold.RISK_PRONE: beta,
        Threshold.RISK_PRONE_BELOW: below,
    }
    return tuple(_outcome(name, u, beta, delta, resampler) for name, delta in deltas.items())


def _outcome(
    name: Threshold, u: FloatArray, beta: FloatArray, delta: FloatArray, resampler: Resampler
) -> ThresholdOutcome:
    def theta(s: FloatArray) -> FloatArray:
        a, b = slope_intercept(s)
        return np.where(a > 0, (s[..., 5] / s[..., 0] - b) / a, np.nan)

    estimates = resampler.estimate(theta, *moments(u, beta), delta)
    mean_delta = resampler.mean(delta)
    if np.isnan(estimates.point):
        return ThresholdOutcome(name, mean_delta, None, None, None, None)
    uploaded = (u > float(estimates.point)).astype(np.float64)
    return ThresholdOutcome(
        name=name,
        delta=mean_delta,
        theta_u=estimates.interval,
        upload_rate=resampler.mean(uploaded),
        reject_rate=resampler.ratio(uploaded * beta, uploaded),
        risk=resampler.mean((1.0 - uploaded) * beta),
    )
