"""Joules of two ends: what they come to, and where what a base station tells of itself belongs."""

import pytest

from uihlm_wireless.joules.ends import EndJoules


@pytest.mark.parametrize(
    ("ends", "total_j"),
    [
        (EndJoules(), None),
        (EndJoules(device_j=1.0), None),
        (EndJoules(basestation_j=2.0), None),
        (EndJoules(device_j=1.0, basestation_j=2.0), 3.0),
        (EndJoules(device_j=1.0, basestation_j=0.0), 1.0),
        (EndJoules(machine_j=4.0), 4.0),
    ],
)
def test_sum_is_known_where_both_ends_are(ends, total_j):
    assert ends.total_j == total_j


@pytest.mark.parametrize(
    ("ends", "told_j", "forwards", "basestation_j"),
    [
        (EndJoules(), 2.0, 3, 2.0),
        (EndJoules(device_j=1.0), 2.0, 3, 2.0),
        (EndJoules(device_j=1.0), None, 3, None),
        # A wall meter read it, or one meter read both.
        (EndJoules(basestation_j=7.0), 2.0, 3, 7.0),
        (EndJoules(machine_j=7.0), 2.0, 3, None),
        # It was never asked: nothing was spent, nor measured where nobody measures.
        (EndJoules(device_j=1.0), None, 0, 0.0),
        (EndJoules(), 0.0, 0, None),
    ],
)
def test_what_the_base_station_tells_adds_to_what_is_known(ends, told_j, forwards, basestation_j):
    told = ends.with_told(told_j, forwards)
    assert told.basestation_j == basestation_j
    assert (told.device_j, told.machine_j) == (ends.device_j, ends.machine_j)
