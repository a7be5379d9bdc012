"""The channel: the paper's numbers, and what any link must obey."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.channel import RadioLink

PAPER = RadioLink()


def test_paper_link_has_its_snr():
    assert PAPER.snr_db == pytest.approx(-8.92, abs=0.005)
    assert PAPER.snr() == pytest.approx(10 ** (-8.9176 / 10), rel=1e-5)


@pytest.mark.parametrize(("b_prob", "seconds"), [(32, 5.880), (16, 2.940)])
def test_paper_link_has_its_uplink_time(b_prob, seconds):
    assert PAPER.uplink_time_s(32000 * b_prob) == pytest.approx(seconds, abs=0.0005)


def test_transmit_power_in_watts():
    assert PAPER.transmit_power_w == pytest.approx(0.1995, abs=5e-5)
    assert RadioLink(transmit_power_dbm=30.0).transmit_power_w == pytest.approx(1.0)


def test_doubling_the_distance_costs_twelve_db_at_exponent_four():
    assert RadioLink(distance_m=1000).snr_db - RadioLink(distance_m=2000).snr_db == pytest.approx(40 * math.log10(2))


@given(st.floats(1e-6, 50.0), st.integers(1, 10**8))
def test_time_times_rate_is_the_message(h, bit):
    assert PAPER.uplink_time_s(bit, h) * PAPER.rate_bit_s(h) == pytest.approx(bit)
    assert PAPER.rates_bit_s(np.array([h]))[0] == pytest.approx(PAPER.rate_bit_s(h))


@given(st.integers(1, 1000))
def test_devices_share_the_bandwidth_evenly(devices):
    shared = PAPER.shared_by(devices)
    assert shared.rate_bit_s() * devices == pytest.approx(PAPER.rate_bit_s())
    assert shared.snr_db == PAPER.snr_db


def test_nothing_takes_no_time_even_without_a_gain():
    assert PAPER.uplink_time_s(0, h=0.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth_hz": 0.0},
        {"bandwidth_hz": math.nan},
        {"distance_m": 0.0},
        {"path_loss_exponent": -1.0},
        {"transmit_power_dbm": math.inf},
        {"noise_dbm": 1e6},
    ],
)
def test_a_link_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidRequestError):
        RadioLink(**wrong)


def test_bits_that_cannot_be_sent_are_refused():
    with pytest.raises(InvalidRequestError, match="0 or more"):
        PAPER.uplink_time_s(-1)
    with pytest.raises(InvalidRequestError, match="above 0"):
        PAPER.uplink_time_s(1, h=0.0)
