"""Thresholds: the formula to the digit, and what each would have done to the tokens."""

import numpy as np
import pytest

from synthetic_trace import lawful, trace_of
from uihlm_evaluation.calibration.resampling import Resampler
from uihlm_evaluation.calibration.thresholds import Threshold, outcomes, threshold


def outcomes_of(trace):
    return {outcome.name: outcome for outcome in outcomes(trace, Resampler(trace.prompt, resamples=300))}


def test_published_law_gives_the_published_thresholds():
    """U-HLM's a = 0.82, b = −0.06; DESIGN's a = 0.72, b = −0.05 and Δ = 0.366."""
    assert threshold(0.82, -0.06, 0.0) == pytest.approx(0.073, abs=5e-4)
    assert threshold(0.82, -0.06, 0.29) == pytest.approx(0.43, abs=5e-3)
    assert threshold(0.72, -0.05, 0.366) == pytest.approx(0.578, abs=5e-4)
    assert threshold(0.0, -0.05, 0.366) is None
    assert threshold(-0.1, -0.05, 0.366) is None


def test_exact_line_gives_the_exact_thresholds():
    u = np.linspace(0.1, 1.0, 10)
    beta = 0.5 * u - 0.05
    found = outcomes_of(trace_of(u, beta, np.arange(10)))
    assert found[Threshold.RISK_AVERSE].theta_u.mean == pytest.approx(0.1, abs=1e-6)
    assert found[Threshold.RISK_PRONE].theta_u.mean == pytest.approx(np.mean(u), abs=1e-6)
    # One token of β = 0 has y_d = x_d; the other nine lie below.
    assert found[Threshold.RISK_PRONE_BELOW].delta.mean == pytest.approx(0.9)
    assert found[Threshold.RISK_PRONE_BELOW].theta_u.mean == pytest.approx((0.9 + 0.05) / 0.5, abs=1e-6)
    assert found[Threshold.RISK_AVERSE].theta_u.half_width < 1e-6, "every resample lies on the line"


def test_rates_and_risk_are_counted_over_all_tokens():
    u = np.linspace(0.1, 1.0, 10)
    beta = 0.5 * u - 0.05
    prone = outcomes_of(trace_of(u, beta, np.arange(10)))[Threshold.RISK_PRONE]
    assert prone.upload_rate.mean == pytest.approx(0.5)
    assert prone.reject_rate.mean == pytest.approx(beta[5:].mean())
    assert prone.risk.mean == pytest.approx(beta[:5].sum() / 10)
    below = outcomes_of(trace_of(u, beta, np.arange(10)))[Threshold.RISK_PRONE_BELOW]
    assert below.upload_rate.mean == 0.0 and below.reject_rate is None
    assert below.risk.mean == pytest.approx(beta.mean())


def test_uploads_and_risk_add_up_to_all_rejection():
    trace = lawful()
    for outcome in outcomes_of(trace).values():
        caught = outcome.upload_rate.mean * (outcome.reject_rate.mean if outcome.reject_rate else 0.0)
        assert caught + outcome.risk.mean == pytest.approx(float(trace.reject_prob.mean()), abs=1e-6)


def test_law_without_a_slope_gives_no_threshold():
    u = np.linspace(0, 1, 20)
    for outcome in outcomes_of(trace_of(u, 0.9 - 0.5 * u, np.arange(20))).values():
        assert (outcome.theta_u, outcome.upload_rate, outcome.risk) == (None, None, None)
