"""Importance against a reference in plain loops, for every reading of A."""

import math
import statistics
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uihlm_device.record import Wants
from uihlm_device.rules.importance import Readout, importance, preceding, wants

HEADS, LENGTH = 4, 9


def attention_of(seed, heads=HEADS, length=LENGTH, concentration=0.4):
    return np.random.default_rng(seed).dirichlet(np.full(length, concentration), size=heads).astype(np.float32)


def matrix_of(seed, length=LENGTH):
    """Head-averaged rows of a causal model: row i sums to 1 over 0 … i."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((length, length), np.float32)
    for i in range(length):
        matrix[i, : i + 1] = rng.dirichlet(np.full(i + 1, 0.6))
    return matrix


def without_self(row):
    mass = math.fsum(row[:-1])
    return [weight / mass for weight in row[:-1]]


def reference(attention, gamma, readout, matrix):
    """Eq. (5)–(7) word for word; returns the count, θ_imp and the weights counted."""
    heads = [without_self([float(w) for w in row]) for row in attention]
    columns = list(zip(*heads, strict=True))
    mean = [math.fsum(column) / len(column) for column in columns]
    if readout is Readout.HEADS:
        row = counted = [weight for head in heads for weight in head]
    elif readout is Readout.MEAN:
        row = counted = mean
    elif readout is Readout.MAX:
        row = counted = [max(column) for column in columns]
    else:
        row = mean
        counted = []
        for i in range(1, len(matrix)):
            mass = math.fsum(float(w) for w in matrix[i][:i])
            counted += [float(w) / mass for w in matrix[i][:i]]
    threshold = max(row) - gamma * statistics.pstdev(row)
    return sum(weight > threshold for weight in counted), threshold, sorted(counted, reverse=True)


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 10_000), gamma=st.floats(0.05, 4.0), readout=st.sampled_from(Readout))
def test_every_reading_counts_what_its_words_say(seed, gamma, readout):
    attention, matrix = attention_of(seed), matrix_of(seed)
    expected, threshold, weights = reference(attention, gamma, readout, matrix)
    if any(abs(weight - threshold) < 1e-5 for weight in weights):
        return  # float32 may decide a weight this close to the threshold either way
    assert importance(attention, gamma, readout, matrix).count == expected


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 10_000), gamma=st.floats(0.1, 3.0), readout=st.sampled_from(Readout), k=st.integers(1, 12))
def test_the_count_reaches_k_iff_the_kth_largest_weight_exceeds_the_threshold(seed, gamma, readout, k):
    attention, matrix = attention_of(seed), matrix_of(seed)
    _, threshold, weights = reference(attention, gamma, readout, matrix)
    if any(abs(weight - threshold) < 1e-5 for weight in weights):
        return
    exceeds = k <= len(weights) and weights[k - 1] > threshold
    assert (importance(attention, gamma, readout, matrix).count >= k) == exceeds


def test_the_default_reading_is_heads():
    attention = attention_of(3)
    assert importance(attention, 1.0) == importance(attention, 1.0, Readout.HEADS)


def test_a_weight_at_the_threshold_does_not_exceed_it():
    """Equal weights have no spread: θ_imp is their maximum, and none is above it."""
    attention = np.full((2, 5), 0.2, np.float32)
    for readout in (Readout.HEADS, Readout.MEAN, Readout.MAX):
        assert importance(attention, 1.0, readout).count == 0


def test_gamma_0_counts_nothing_and_a_large_gamma_counts_all():
    attention = attention_of(8)
    assert importance(attention, 0.0).count == 0
    assert importance(attention, 100.0).count == HEADS * (LENGTH - 1)
    assert importance(attention, 100.0, Readout.MEAN).count == LENGTH - 1
    assert importance(attention, 100.0, Readout.MATRIX, matrix_of(8)).count >= LENGTH * (LENGTH - 1) // 2


def test_the_tokens_own_weight_is_left_out_and_the_rest_renormalised():
    little, much = (np.array([[0.3, 0.1, 0.6], [0.1, 0.4, 0.5]], np.float32), np.array([[3, 1, 96], [2, 8, 90]]) / 100)
    assert preceding(little) == pytest.approx(np.array([[0.75, 0.25], [0.2, 0.8]]), abs=1e-6)
    assert preceding(much.astype(np.float32)) == pytest.approx(np.array([[0.75, 0.25], [0.2, 0.8]]), abs=1e-6)
    for readout in (Readout.HEADS, Readout.MEAN, Readout.MAX):
        a, b = importance(little, 1.0, readout), importance(much.astype(np.float32), 1.0, readout)
        assert a.count == b.count
        assert (a.entropy_nat, a.max_weight) == pytest.approx((b.entropy_nat, b.max_weight), abs=1e-5)


def test_attention_is_left_as_it_was():
    attention, matrix = attention_of(1), matrix_of(1)
    before = attention.copy(), matrix.copy()
    importance(attention, 1.0, Readout.MATRIX, matrix)
    assert (attention == before[0]).all() and (matrix == before[1]).all()


def test_mean_and_max_collapse_under_an_attention_sink_where_heads_does_not():
    """The first token takes most of every head, in differing degrees; each head reads a neighbour of its own as well."""
    length, heads = 40, 8
    attention = np.full((heads, length), 0.001, np.float32)
    for h in range(heads):
        attention[h, 0] = 0.70 + 0.03 * h
        attention[h, 5 + h] = 0.2
    attention /= attention.sum(axis=1, keepdims=True)
    count = {r: importance(attention, 1.0, r).count for r in (Readout.HEADS, Readout.MEAN, Readout.MAX)}
    assert count[Readout.MEAN] == count[Readout.MAX] == 1
    assert count[Readout.HEADS] >= 5


def test_matrix_counts_early_rows_that_hold_weights_near_1():
    """Row 1 sees one token only, so its weight is 1: the literal Eq. (7) almost always passes."""
    count = [importance(attention_of(s), 1.0, Readout.MATRIX, matrix_of(s)).count for s in range(50)]
    alone = [importance(attention_of(s), 1.0, Readout.MEAN).count for s in range(50)]
    assert min(count) >= 1
    assert sum(count) > 2 * sum(alone)


def test_entropy_and_largest_weight_are_of_the_mean_row():
    flat = importance(np.full((3, 9), 1 / 9, np.float32), 1.0)
    assert flat.entropy_nat == pytest.approx(math.log(8), abs=1e-5)
    assert flat.max_weight == pytest.approx(1 / 8, abs=1e-6)
    # Two heads that each look at one token: neither is diffuse, their mean is a coin.
    split = importance(np.array([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]], np.float32), 1.0, Readout.MAX)
    assert split.entropy_nat == pytest.approx(math.log(2), abs=1e-6)
    assert split.max_weight == pytest.approx(0.5)
    one = importance(np.array([[0.5, 0.0, 0.5]], np.float32), 1.0)
    assert (one.entropy_nat, one.max_weight) == pytest.approx((0.0, 1.0))


def test_the_second_token_has_one_predecessor():
    only = importance(np.array([[0.4, 0.6], [0.9, 0.1]], np.float32), 1.0)
    assert (only.count, only.max_weight) == (0, pytest.approx(1.0))


def test_a_head_that_sees_only_itself_spoils_nothing():
    """Softmax underflows: a head may leave no weight at all on the tokens before. Its row is zero, not NaN."""
    attention = np.array([[0.0, 0.0, 0.0, 1.0], [0.6, 0.1, 0.1, 0.2]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = importance(attention, 0.5)
    assert seen.count == 1
    assert math.isfinite(seen.entropy_nat) and math.isfinite(seen.max_weight)


@pytest.mark.parametrize(
    ("readout", "expected"),
    [
        (Readout.HEADS, Wants(attention=True)),
        (Readout.MEAN, Wants(attention=True)),
        (Readout.MAX, Wants(attention=True)),
        (Readout.MATRIX, Wants(attention=True, attention_matrix=True)),
    ],
)
def test_a_reading_asks_for_no_more_than_it_needs(readout, expected):
    assert wants(readout) == expected
