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


@pytest.mark.parametrize("rtt_s", [0.0, 0.004, 0.02, 0.1])
@pytest.mark.parametrize("window", [1, 2, 8])
def test_an_llm_that_runs_on_is_no_slower_than_one_that_waits_and_no_faster_than_its_forwards(window, rtt_s):
    for draft_s in (0.004, 0.012, 0.03):
        parts = (draft_s, 0.0, 0.001, rtt_s, 0.015, 0.0005)
        waits, runs_on = (
            stretch(0.6, window, FlightTimes(*parts, run_on), 100).seconds / 2.5 for run_on in (False, True)
        )
        assert 0.997 * 0.015 <= runs_on <= 1.003 * waits


def test_a_free_link_leaves_the_llms_own_pace_where_it_runs_on():
    """Also where a correction comes in the middle of a draft: what is late there is early for the forward."""
    mean = stretch(0.6, 4, FlightTimes(0.0105, 0.0, 0.0, 0.0, 0.023, 0.0, run_on=True), 1000)
    assert np.isclose(mean.seconds / mean.tokens, 0.023, rtol=5e-3)
