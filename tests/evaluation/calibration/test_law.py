"""The law: what it finds in traces of a known one, and that it speaks up where there is none."""

import numpy as np
import pytest

from synthetic_trace import lawful, trace_of
from uihlm_evaluation.calibration.law import correlation, fit
from uihlm_evaluation.calibration.resampling import Resampler
from uihlm_evaluation.quality.bootstrap import mean_interval
from uihlm_proto.errors import InvalidRequestError


def law_of(trace, seed=0):
    return fit(trace, Resampler(trace.prompt, seed, resamples=500))


def holds(interval, value):
    return interval.low <= value <= interval.high


def test_known_law_lies_within_the_intervals():
    law = law_of(lawful(a=0.72, b=-0.05))
    assert holds(law.probability.a, 0.72) and holds(law.probability.b, -0.05)
    assert law.probability.a.half_width < 0.03
    assert law.probability.r2_bins.mean > 0.98
    assert law.warnings() == []


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    hits = [
        holds(law_of(lawful(a=0.6, b=0.0, prompts=30, tokens=20, seed=seed)).probability.a, 0.6) for seed in range(60)
    ]
    assert 0.85 <= np.mean(hits) <= 1.0


def test_line_and_correlation_are_those_of_least_squares():
    trace = lawful(prompts=7, tokens=13)
    u, beta = trace.u.astype(float), trace.reject_prob.astype(float)
    law = law_of(trace)
    a, b = np.polyfit(u, beta, 1)
    assert (law.probability.a.mean, law.probability.b.mean) == pytest.approx((a, b))
    assert law.probability.correlation.mean == pytest.approx(np.corrcoef(u, beta)[0, 1])
    a, b = np.polyfit(u, trace.rejected.astype(float), 1)
    assert (law.outcome.a.mean, law.outcome.b.mean) == pytest.approx((a, b))
    assert (law.tokens, law.prompts) == (91, 7)
    assert law.mean_rejection.mean == pytest.approx(beta.mean())
    assert law.share_below.mean == pytest.approx((trace.y_d < trace.x_d).mean())


def test_outcomes_have_the_same_slope_and_a_wider_interval():
    law = law_of(lawful())
    assert holds(law.outcome.a, 0.72)
    assert law.outcome.a.half_width > 1.5 * law.probability.a.half_width
    assert law.outcome.correlation.mean < law.probability.correlation.mean


def test_intervals_are_of_prompts_and_not_of_tokens():
    """Tokens that repeat their prompt's one value say no more than the prompt does."""
    generator = np.random.default_rng(3)
    u, beta = generator.uniform(0.2, 0.9, 20), generator.uniform(0, 1, 20)
    once = law_of(trace_of(u, beta, np.arange(20)))
    often = law_of(trace_of(np.repeat(u, 30), np.repeat(beta, 30), np.repeat(np.arange(20), 30)))
    assert often.probability.a.low == pytest.approx(once.probability.a.low)
    assert often.probability.a.high == pytest.approx(once.probability.a.high)


def test_mean_over_prompts_of_one_token_is_the_plain_bootstrap():
    values = np.random.default_rng(1).uniform(size=40)
    ours = Resampler(np.arange(40, dtype=np.int32), resamples=20_000).mean(values)
    plain = mean_interval(values, resamples=20_000)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((plain.mean, plain.low, plain.high), abs=3e-3)


def test_a_sampled_u_falls_into_the_bin_that_begins_with_it():
    """A trace holds it in float32, where 0.35 is a hair less than seven twentieths."""
    u = np.arange(20, dtype=np.float32) / np.float32(20)
    bins = law_of(trace_of(u, np.linspace(0, 1, 20), np.arange(20))).reliability
    assert [b.tokens for b in bins] == [1] * 20


def test_reliability_table_counts_every_token_once():
    trace = trace_of([0.0, 0.02, 0.49, 0.5, 0.999, 1.0], [0.0, 0.2, 0.5, 0.25, 1.0, 0.5], np.arange(6))
    bins = law_of(trace).reliability
    assert [(b.low, b.high, b.tokens) for b in bins] == [(0.0, 0.05, 2), (0.45, 0.5, 1), (0.5, 0.55, 1), (0.95, 1.0, 2)]
    assert [b.reject_prob.mean for b in bins] == pytest.approx([0.1, 0.5, 0.25, 0.75])
    assert [b.u for b in bins] == pytest.approx([0.01, 0.49, 0.5, 0.9995])


@pytest.mark.parametrize(
    ("beta", "sentence"),
    [
        (lambda u, g: g.uniform(0, 0.6, len(u)), "does not grow with u"),
        (lambda u, g: 0.8 - 0.5 * u, "does not grow with u"),
        (lambda u, g: 0.3 * u + 0.2, "above 0"),
        (lambda u, g: 4 * (u - 0.5) ** 2 * 0.9 + 0.05 * u, "explains"),
    ],
)
def test_broken_law_is_said_to_be_broken(beta, sentence):
    generator = np.random.default_rng(5)
    u = generator.uniform(0, 1, 3000)
    found = law_of(trace_of(u, beta(u, generator), np.repeat(np.arange(50), 60))).warnings()
    assert any(sentence in warning for warning in found), found
    assert not any("too few" in warning for warning in found)


def test_few_tokens_do_not_condemn_the_law():
    generator = np.random.default_rng(5)
    found = law_of(trace_of(generator.uniform(0, 1, 40), generator.uniform(0, 1, 40), np.arange(40))).warnings()
    assert "too few" in found[-1]


def test_one_uncertainty_gives_no_line():
    with pytest.raises(InvalidRequestError, match="no line can be fitted"):
        law_of(trace_of([0.5, 0.5], [0.1, 0.9]))


def test_correlation_with_a_constant_is_none_at_all():
    x = np.random.default_rng(0).uniform(size=200)
    others = np.stack([np.full(200, 7.3), 2 * x + 1, -x], axis=1)
    found = correlation(x, others, Resampler(np.arange(200) // 10, resamples=50))
    assert [interval.mean for interval in found] == pytest.approx([0.0, 1.0, -1.0])
