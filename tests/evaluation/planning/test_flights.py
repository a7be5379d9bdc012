"""Drafts in flight: limits that need no simulation."""

import numpy as np
import pytest

from uihlm_evaluation.planning.flights import FlightTimes, stretch


def test_one_upload_at_a_time_is_the_loop_that_waits():
    times = FlightTimes(0.01, 0.002, 0.003, 0.05, 0.02, 0.001)
    mean = stretch(0.6, 1, times, 100)
    assert np.isclose(mean.seconds / mean.tokens, 0.01 + 0.002 + 0.003 + 0.05 + 0.02 + 0.001)
    assert np.isclose(mean.drafts, mean.tokens)


def test_drafts_that_always_stand_come_as_fast_as_the_slowest_part():
    mean = stretch(1.0, 64, FlightTimes(0.01, 0.0, 0.0, 0.2, 0.005, 0.0), 4000)
    assert np.isclose(mean.seconds / mean.tokens, 0.01, rtol=0.02)
    mean = stretch(1.0, 64, FlightTimes(0.01, 0.0, 0.0, 0.2, 0.03, 0.0), 4000)
    assert np.isclose(mean.seconds / mean.tokens, 0.03, rtol=0.02)


def test_free_link_and_llm_leave_the_closed_form():
    """(t_d + (1 − α)(t_v + R)) a token, where a verdict never comes in the middle of a draft."""
    mean = stretch(0.6, 1000, FlightTimes(0.01, 0.0, 0.0, 0.09499999, 0.005, 0.0), 4000)
    assert np.isclose(mean.seconds / mean.tokens, 0.01 + 0.4 * 0.1, rtol=1e-3)


@pytest.mark.parametrize("window", [2, 8])
def test_uplink_is_never_on_the_air_for_longer_than_there_is_time(window):
    """Uploads that a correction overtook hold back those after it."""
    airtime_s = 0.5
    mean = stretch(0.5, window, FlightTimes(0.01, 0.0, airtime_s, 0.05, 0.02, 0.0), 100)
    assert mean.drafts * airtime_s <= 1.01 * mean.seconds
    assert mean.backlog_s > 0.0
