"""The meter around an answer: its times on the wall clock, and whose joules the counters' are."""

import pytest

from fake_counters import FakeClock, FakeCounters
from uihlm_wireless.joules.counters import Measured, WindowMeter


@pytest.mark.parametrize("shared", [False, True])
def test_joules_are_the_devices_or_one_machines_never_both(shared):
    clock, counters = FakeClock(100.0), FakeCounters()
    end = WindowMeter(counters, shared, clock).begin()
    counters.spend(7.0)
    clock.pass_s(2.5)
    whose = {"machine_j": 7.0} if shared else {"device_j": 7.0}
    measured = end()
    assert measured == Measured(100.0, 102.5, **whose)
    assert measured.duration_s == 2.5


def test_without_counters_the_times_are_noted_for_a_meter_that_is_read_later():
    clock = FakeClock(5.0)
    end = WindowMeter(None, wall_clock=clock).begin()
    clock.pass_s(1.0)
    assert end() == Measured(5.0, 6.0)


def test_what_was_spent_before_is_not_charged():
    counters = FakeCounters()
    meter = WindowMeter(counters)
    counters.spend(100.0)
    first = meter.begin()
    counters.spend(1.0)
    assert first().device_j == 1.0
    counters.spend(50.0)
    assert meter.begin()().device_j == 0.0
