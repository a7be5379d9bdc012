"""The audit byte: never too large, never far too small."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_proto.audit import decode, encode, packed, reject_probability

PROBABILITIES = st.floats(0.0, 1.0, exclude_min=True)


def error_bound(x):
    """By how much a rejection probability can at most be understated for a token of probability x: 1 − x̂/x."""
    return 1.0 - decode(encode(x)) / x if x > 0.0 else 0.0


@given(PROBABILITIES)
def test_risk_is_nothing_where_both_models_agree(x):
    assert decode(encode(x)) <= x
    assert reject_probability(decode(encode(x)), x) == 0.0


@given(PROBABILITIES, st.floats(0.0, 1.0))
def test_risk_is_never_overstated_and_understated_within_the_bound(x, y):
    true, told = reject_probability(x, y), reject_probability(decode(encode(x)), y)
    assert true - error_bound(x) - 1e-12 <= told <= true


@given(PROBABILITIES)
def test_bound_is_small_where_tokens_are_skipped(x):
    assert error_bound(x) <= (0.026 if x >= 0.5 else 0.118 if x >= 1.3e-7 else 1.0)


def test_every_byte_has_a_probability_of_its_own():
    assert [encode(decode(byte)) for byte in range(256)] == list(range(256))
    assert decode(0) == 1.0 and decode(255) == 0.0


@pytest.mark.parametrize(("x", "byte"), [(1.0, 0), (1.0 + 1e-7, 0), (0.5, 54), (0.1, 97), (1e-9, 255), (0.0, 255)])
def test_bytes_are_these(x, byte):
    assert encode(x) == byte
    assert packed([x, 1.0]) == bytes([byte, 0])


def test_rejection_probability_is_that_of_the_acceptance_rule():
    assert reject_probability(0.8, 0.2) == pytest.approx(0.75)
    assert reject_probability(0.2, 0.8) == 0.0
    assert reject_probability(0.0, 0.0) == 0.0
    assert math.isclose(255 * math.sqrt(math.log(2) / 16), 53.07, abs_tol=0.01)
