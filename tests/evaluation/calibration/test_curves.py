"""Importance curves and the choice of layer: rates counted by hand, and the rule's three answers."""

import numpy as np
import pytest

from synthetic_trace import HEADER, LAYERS, trace_of
from uihlm_evaluation.calibration.curves import PAPER_UPLOAD_RATES, choose_layer, curves
from uihlm_evaluation.calibration.resampling import Resampler
from uihlm_evaluation.calibration.trace import TraceError, TraceHeader

TOKENS, PROMPTS = 2000, 20
DEFAULT = 3  # 0.85 of four layers


def resampler_of(trace):
    return Resampler(trace.prompt, resamples=300)


def counts_like(rates, seed=0):
    """Counts that reach k as often as a curve of rates says."""
    draws = np.random.default_rng(seed).uniform(size=TOKENS)
    return sum(np.where(draws < rate, k - max([0, *[j for j in rates if j < k]]), 0) for k, rate in rates.items())


def trace_with(layers):
    counts = np.zeros((TOKENS, LAYERS, 3, 3))
    for layer, column in layers.items():
        counts[:, layer, 0, 1] = column
    generator = np.random.default_rng(0)
    beta = generator.uniform(size=TOKENS)
    return trace_of(generator.uniform(size=TOKENS), beta, np.arange(TOKENS) // (TOKENS // PROMPTS), counts=counts)


def test_rates_are_shares_of_tokens_with_k_weights_or_more():
    counts = np.zeros((4, LAYERS, 3, 3))
    counts[:, 2, 1, 0] = [3, 5, 2, 11]
    trace = trace_of([0.1, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.9], np.arange(4), counts=counts)
    found = curves(trace, resampler_of(trace))
    assert len(found) == LAYERS * 9
    (curve,) = [c for c in found if (c.layer, c.readout, c.gamma) == (2, "mean", 0.5)]
    assert [(k, rate.mean) for k, rate in curve.upload_rates] == [(3, 0.75), (5, 0.5), (7, 0.25), (9, 0.25), (11, 0.25)]
    assert curve.correlation.mean == pytest.approx(np.corrcoef([3, 5, 2, 11], [0.1, 0.3, 0.2, 0.9])[0, 1])
    others = [c for c in found if c is not curve]
    assert all(rate.mean == 0 for c in others for _, rate in c.upload_rates) and all(
        c.correlation.mean == 0 for c in others
    )


def test_layer_like_the_papers_is_chosen():
    trace = trace_with({1: counts_like(PAPER_UPLOAD_RATES)})
    choice = choose_layer(trace, resampler_of(trace))
    assert (choice.layer, choice.default, choice.nearest) == (1, DEFAULT, 1)
    assert choice.distance[1].mean < 0.03 and choice.distance[0].mean > 0.2
    assert "nearer" in choice.reason() and choice.gain.low > 0


def test_one_prompt_proves_no_layer():
    trace = trace_with({1: counts_like(PAPER_UPLOAD_RATES)})
    alone = Resampler(np.zeros(TOKENS, int), resamples=300)
    choice = choose_layer(trace, alone)
    assert (choice.layer, choice.nearest) == (DEFAULT, 1) and choice.gain.low > 0


def test_default_depth_stands_where_another_is_nearer_by_no_more_than_noise():
    worse = counts_like({k: rate * 0.97 for k, rate in PAPER_UPLOAD_RATES.items()}, seed=1)
    trace = trace_with({1: counts_like(PAPER_UPLOAD_RATES), DEFAULT: worse})
    choice = choose_layer(trace, resampler_of(trace))
    assert (choice.layer, choice.nearest) == (DEFAULT, 1)
    assert "by only" in choice.reason()


def test_default_depth_that_is_nearest_says_so():
    trace = trace_with({DEFAULT: counts_like(PAPER_UPLOAD_RATES)})
    choice = choose_layer(trace, resampler_of(trace))
    assert choice.layer == choice.nearest == DEFAULT
    assert choice.reason().endswith("and nearest to the paper's upload rates")


def test_trace_without_the_reading_cannot_choose():
    header = TraceHeader(0.6, 0, 1.0, "expected", gammas=(0.5, 2.0, 3.0), readouts=HEADER.readouts)
    trace = trace_of([0.1, 0.2], [0.0, 1.0], header=header)
    with pytest.raises(TraceError, match="γ = 1"):
        choose_layer(trace, resampler_of(trace))
