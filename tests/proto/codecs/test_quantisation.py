"""x̂ is the nearest grid point to the renormalised top of x, ties and all, and its distance is what it says."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uihlm_proto.codecs.quantisation import likeliest, quantise
from uihlm_proto.errors import InvalidRequestError

weights = st.lists(st.sampled_from([0.0, 1e-12, 0.1, 0.1, 0.2, 0.25, 1 / 3, 1.0, 7.0]), min_size=1, max_size=40).filter(
    any
)


def normalised(values):
    return np.array(values) / np.sum(values)


def ordered(x):
    """All ids, largest first, ties to the lower id: the long way."""
    return sorted(range(x.size), key=lambda i: (-x[i], i))


@settings(deadline=None)
@given(weights, st.data())
def test_the_support_is_the_k_largest_and_ties_go_to_the_lower_id(values, data):
    x = normalised(values)
    k = data.draw(st.integers(1, x.size))
    assert likeliest(x, k).tolist() == ordered(x)[:k]


def test_a_flat_distribution_keeps_the_lowest_ids_and_gives_them_the_odd_steps():
    x = np.full(49_152, 1 / 49_152)
    support = likeliest(x, 5)
    assert support.tolist() == [0, 1, 2, 3, 4]
    assert quantise(x, support, 7).counts.tolist() == [2, 2, 1, 1, 1]


@settings(deadline=None, max_examples=300)
@given(weights, st.integers(1, 300), st.data())
def test_counts_sum_to_steps_and_miss_no_share_by_a_step(values, steps, data):
    x = normalised(values)
    q = quantise(x, likeliest(x, data.draw(st.integers(1, x.size))), steps)
    shares = x[q.support] / x[q.support].sum() * steps
    assert q.counts.sum() == steps and (q.counts >= 0).all()
    assert (np.abs(q.counts - shares) < 1.0).all()
    # What the drafter cannot draw is never drawn.
    assert (q.counts[x[q.support] == 0.0] == 0).all()


@settings(deadline=None, max_examples=200)
@given(weights, st.integers(1, 300), st.data())
def test_the_distance_is_measured_and_within_its_bound(values, steps, data):
    x = normalised(values)
    support = likeliest(x, data.draw(st.integers(1, x.size)))
    q = quantise(x, support, steps)
    x_hat = np.zeros(x.size)
    x_hat[q.support] = q.counts / steps
    assert q.total_variation == pytest.approx(np.abs(x - x_hat).sum() / 2, abs=1e-12)
    dropped = 1.0 - x[support].sum()
    assert dropped - 1e-12 <= q.total_variation <= dropped + support.size / (4 * steps) + 1e-12


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=4), st.integers(1, 7))
def test_no_other_counts_are_nearer(values, steps):
    x = normalised(values)
    q = quantise(x, np.arange(x.size), steps)
    every = (c for c in itertools.product(range(steps + 1), repeat=x.size) if sum(c) == steps)
    nearest = min(np.abs(x - np.array(c) / steps).sum() / 2 for c in every)
    assert q.total_variation == pytest.approx(nearest, abs=1e-12)


@pytest.mark.parametrize("bad", [[np.nan, 0.5, 0.5], [np.nan] * 3, [np.inf, 0.0, 0.0], [0.0] * 3])
def test_what_is_no_distribution_is_refused(bad):
    with pytest.raises(InvalidRequestError, match="not finite, or no mass"):
        likeliest(np.array(bad), 2)
