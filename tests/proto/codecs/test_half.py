"""Halves: the bits that NumPy makes, both ways."""

import numpy as np
import pytest

from uihlm_proto.codecs.half import from_half, to_half


@pytest.mark.parametrize("spread", [0.5, 3.0, 12.0, 40.0])
def test_probabilities_round_to_the_nearest_even_half(spread):
    p = np.exp(np.random.default_rng(0).normal(size=20_000) * spread)
    p /= p.sum()
    np.testing.assert_array_equal(to_half(p).view(np.uint16), p.astype(np.float32).astype(np.float16).view(np.uint16))


def test_every_half_and_every_tie_between_two_comes_out_right():
    every = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float64)
    between = (every[:-1] + every[1:]) / 2
    for p in (every, between):
        np.testing.assert_array_equal(to_half(p), p.astype(np.float16))


def test_every_half_is_read_back_those_that_are_no_number_too():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(from_half(every), every.astype(np.float64))
