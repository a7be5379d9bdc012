"""The two clocks: virtual time only moves when told, real time by itself."""

import math
import threading
import time

import pytest

from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_wireless.clock import EnforcedClock, SimulatedClock


@pytest.fixture(params=[SimulatedClock, EnforcedClock])
def clock(request):
    return request.param()


def test_virtual_time_moves_by_compute_and_waits_and_never_back():
    clock = SimulatedClock()
    started = time.monotonic()
    clock.advance(100.0)
    clock.wait_until(250.0)
    clock.wait_until(10.0)
    assert clock.now() == 250.0
    assert time.monotonic() - started < 1.0


def test_real_time_ignores_compute_and_sleeps_through_waits():
    clock = EnforcedClock()
    clock.advance(100.0)
    assert clock.now() < 1.0
    at = clock.now() + 0.05
    clock.wait_until(at)
    assert at <= clock.now() < at + 1.0


def test_the_latest_answer_to_a_round_counts(clock):
    clock.note_verdict(1, 2.0)
    clock.note_verdict(2, 9.0)
    clock.note_verdict(1, 3.0)
    assert (clock.verdict_at(1), clock.verdict_at(2)) == (3.0, 9.0)


def test_rounds_long_past_are_forgotten_and_a_late_answer_keeps_its_round(clock, monkeypatch):
    monkeypatch.setattr("uihlm_wireless.clock._REMEMBERED_ROUNDS", 3)
    for round_number in (1, 2, 3, 1, 4):
        clock.note_verdict(round_number, float(round_number))
    assert [clock.verdict_at(n) for n in (1, 3, 4)] == [1.0, 3.0, 4.0]
    with pytest.raises(ProtocolError):
        clock.verdict_at(2)


def test_a_round_without_an_answer_is_named(clock):
    with pytest.raises(ProtocolError, match="round 7"):
        clock.verdict_at(7)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_compute_that_cannot_be_is_refused(clock, seconds):
    with pytest.raises(InvalidRequestError):
        clock.advance(seconds)


def test_no_compute_is_lost_between_threads():
    clock = SimulatedClock()
    threads = [threading.Thread(target=lambda: [clock.advance(0.5) for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 4000.0


def test_clocks_say_which_they_are():
    assert SimulatedClock().simulated
    assert not EnforcedClock().simulated
