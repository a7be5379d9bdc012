"""Fading: replayable draws, and airtimes that follow from them by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.fading import (
    FadingMode,
    OutageError,
    airtime_s,
    draw_gains,
    drawn_gains,
    fading_key,
    rate_at_outage,
    recorded_gains,
)

PAPER = RadioLink()
KEY = fading_key(0, session_key(0, 0))
DENSE32 = 32000 * 32


def never(count):
    raise AssertionError("no gain is needed")


def test_without_fading_airtime_is_equation_two():
    assert airtime_s(DENSE32, PAPER, FadingMode.NONE, never) == pytest.approx(5.880, abs=0.0005)


@pytest.mark.parametrize("mode", list(FadingMode))
def test_nothing_to_send_takes_no_time_and_no_gain(mode):
    assert airtime_s(0, PAPER, mode, never) == 0.0


def test_gains_are_unit_exponentials():
    gains = np.concatenate([draw_gains(KEY, upload, 100) for upload in range(500)])
    assert gains.mean() == pytest.approx(1.0, abs=0.02)
    assert (gains > 2.0).mean() == pytest.approx(math.exp(-2.0), abs=0.006)


def test_gains_depend_on_seed_session_upload_and_slot_and_on_nothing_else():
    base = draw_gains(KEY, 3, 8)
    assert np.array_equal(base, draw_gains(fading_key(0, session_key(0, 0)), 3, 100)[:8])
    assert len(set(base)) == 8
    for other in (fading_key(1, session_key(0, 0)), fading_key(0, session_key(0, 1)), fading_key(0, session_key(1, 0))):
        assert not np.isin(draw_gains(other, 3, 8), base).any()
    assert not np.isin(draw_gains(KEY, 4, 8), base).any()


def test_fading_key_is_not_the_session_key():
    assert fading_key(0, session_key(0, 0)) != session_key(0, 0)


def test_slotted_airtime_by_hand():
    radio = RadioLink(bandwidth_hz=1000.0, transmit_power_dbm=0.0, noise_dbm=0.0, distance_m=1.0)  # ρ = h
    gains = recorded_gains([1.0, 3.0, 0.0, 1.0])  # 1000, 2000, 0, 1000 bit/s: 10, 20, 0, 10 bits a slot
    assert airtime_s(5, radio, FadingMode.SLOTTED, gains) == pytest.approx(0.005)
    assert airtime_s(10, radio, FadingMode.SLOTTED, gains) == pytest.approx(0.010)
    assert airtime_s(20, radio, FadingMode.SLOTTED, gains) == pytest.approx(0.015)
    assert airtime_s(34, radio, FadingMode.SLOTTED, gains) == pytest.approx(0.034)


def test_block_airtime_by_hand():
    radio = RadioLink(bandwidth_hz=1000.0, transmit_power_dbm=0.0, noise_dbm=0.0, distance_m=1.0)
    gains = recorded_gains([0.1, 0.0, 3.0])  # 137 and 0 bit/s are below 500; 2000 is not
    assert airtime_s(1000, radio, FadingMode.BLOCK, gains, outage_rate_bit_s=500.0) == pytest.approx(2.0 + 2.0 + 0.5)
    assert airtime_s(1000, radio, FadingMode.BLOCK, recorded_gains([1.0]), outage_rate_bit_s=500.0) == pytest.approx(1)


def test_the_default_outage_rate_is_missed_once_in_ten():
    rates = PAPER.rates_bit_s(np.concatenate([draw_gains(KEY, upload, 100) for upload in range(300)]))
    assert (rates < rate_at_outage(PAPER)).mean() == pytest.approx(0.1, abs=0.007)


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=300), st.integers(1, 5000))
@settings(deadline=None)
def test_slotted_airtime_carries_exactly_the_message(trace, bit):
    radio = RadioLink(bandwidth_hz=1000.0, transmit_power_dbm=0.0, noise_dbm=0.0, distance_m=1.0)
    rates = radio.rates_bit_s(np.array(trace))
    if rates.sum() * 0.010 < bit:
        with pytest.raises(InvalidRequestError, match="record a longer one"):
            airtime_s(bit, radio, FadingMode.SLOTTED, recorded_gains(trace))
        return
    seconds = airtime_s(bit, radio, FadingMode.SLOTTED, recorded_gains(trace))
    edges = np.arange(len(trace) + 1) * 0.010
    sent = np.interp(seconds, edges, np.concatenate([[0.0], np.cumsum(rates * 0.010)]))
    assert sent == pytest.approx(bit, abs=1e-6 * bit + 1e-9)


def test_a_recorded_link_replays_a_drawn_one():
    drawn = airtime_s(DENSE32, PAPER, FadingMode.SLOTTED, drawn_gains(KEY, 7))
    assert airtime_s(DENSE32, PAPER, FadingMode.SLOTTED, recorded_gains(draw_gains(KEY, 7, 5000))) == drawn
    assert 400 < drawn / 0.010 < 900


def test_the_slotted_mean_is_finite_and_is_that_of_the_mean_rate():
    mean_rate, _ = integrate.quad(lambda h: math.exp(-h) * PAPER.rate_bit_s(h), 0, 60)
    seconds = [airtime_s(DENSE32, PAPER, FadingMode.SLOTTED, drawn_gains(KEY, upload)) for upload in range(200)]
    assert np.mean(seconds) == pytest.approx(DENSE32 / mean_rate, rel=0.01)
    assert max(seconds) < 1.3 * min(seconds)


def test_one_gain_an_upload_has_no_mean_without_an_outage_rate():
    """∫ e^(-h) / log2(1 + ρh) dh grows by the same step with every factor that its lower end shrinks."""

    def truncated(epsilon):
        # h = e^t spreads the singularity at 0 evenly.
        value, _ = integrate.quad(
            lambda t: math.exp(t - math.exp(t)) / PAPER.rate_bit_s(math.exp(t)), math.log(epsilon), 4
        )
        return value

    first, second = truncated(1e-6) - truncated(1e-3), truncated(1e-9) - truncated(1e-6)
    step = math.log(1e3) * math.log(2) / (PAPER.bandwidth_hz * PAPER.snr())
    assert first == pytest.approx(step, rel=0.01)
    assert second == pytest.approx(step, rel=0.01)


def test_an_outage_rate_above_the_link_ends_in_an_error_that_says_so():
    with pytest.raises(OutageError, match="lower the outage rate"):
        airtime_s(1000, PAPER, FadingMode.BLOCK, drawn_gains(KEY, 0), outage_rate_bit_s=1e9)


def test_a_hopeless_slotted_link_ends_in_an_error_that_says_so():
    hopeless = RadioLink(distance_m=1e9)
    with pytest.raises(OutageError, match="use a stronger link"):
        airtime_s(DENSE32, hopeless, FadingMode.SLOTTED, lambda count: np.full(count, 1.0))


def test_a_recorded_link_that_is_none_is_refused():
    for trace in ([[1.0]], [-1.0], [math.nan]):
        with pytest.raises(InvalidRequestError):
            recorded_gains(trace)
    with pytest.raises(InvalidRequestError, match="record a longer one"):
        airtime_s(10**9, PAPER, FadingMode.BLOCK, recorded_gains([]), outage_rate_bit_s=1.0)
