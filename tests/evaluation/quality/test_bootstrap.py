"""The bootstrap: right where the answer is known, the same every time, and shorter when paired."""

import numpy as np
import pytest

from uihlm_evaluation.quality import bootstrap
from uihlm_evaluation.quality.bootstrap import mean_interval, paired_difference
from uihlm_proto.errors import InvalidRequestError


def test_interval_of_a_large_sample_is_the_normal_one():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    interval = mean_interval(values, resamples=4000)
    error = values.std() / 20.0
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert interval.half_width == pytest.approx(1.96 * error, rel=0.05)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        interval = mean_interval(generator.exponential(1.0, 100), resamples=400)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.90 < covered / 300 < 0.98


def test_same_seed_same_interval_and_blocks_do_not_matter(monkeypatch):
    values = np.random.default_rng(2).random(50)
    whole = mean_interval(values, seed=7)
    assert whole == mean_interval(list(values), seed=7)
    assert whole != mean_interval(values, seed=8)
    monkeypatch.setattr(bootstrap, "_BLOCK", 130)
    assert mean_interval(values, seed=7) == whole


def test_one_value_has_no_width():
    interval = mean_interval([0.25])
    assert (interval.mean, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_pairing_shortens_the_interval_and_keeps_the_sign():
    generator = np.random.default_rng(3)
    hard = generator.normal(0.0, 1.0, 100)
    first, second = hard + 0.1, hard + generator.normal(0.0, 0.01, 100)
    paired = paired_difference(first, second)
    assert paired.low > 0.0
    assert paired.half_width < 0.1 * mean_interval(first).half_width
    assert paired_difference(second, first).mean == pytest.approx(-paired.mean)


@pytest.mark.parametrize(("values", "part"), [([], "at least one"), ([1.0, float("nan")], "finite")])
def test_what_has_no_mean_is_refused(values, part):
    with pytest.raises(InvalidRequestError, match=part):
        mean_interval(values)


def test_unequal_pairs_are_refused():
    with pytest.raises(InvalidRequestError, match="got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
