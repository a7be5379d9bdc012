"""The meter of an endpoint: a window is closed however its answer ends, and what cannot be read costs no answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from fake_counters import FakeClock, FakeCounters
from uihlm_device.endpoint.metering import AnswerJoules, AnswerMeter
from uihlm_device.turn import Turn
from uihlm_wireless.joules.counters import Measured, WindowMeter
from uihlm_wireless.joules.ends import EndJoules
from uihlm_wireless.joules.wall_meter import UncoveredError

TOLD = Turn(answers=1, tokens=4, llm_forwards=4, metered_forwards=4, metered_j=12.0)
NO_COUNTERS = "the energy counters cannot be read any more"


class Breaking(FakeCounters):
    """Counters that fail from some window on, when it begins or when it ends."""

    def __init__(self, at: str, after: int = 0) -> None:
        super().__init__(5.0)
        self.asked = 0
        self._at = at
        self._after = after

    def begin(self) -> Callable[[], float]:
        self.asked += 1
        broken = self.asked > self._after
        if broken and self._at == "begin":
            raise RuntimeError("NVML is gone")
        end = super().begin()

        def ended() -> float:
            if broken:
                raise RuntimeError("NVML is gone")
            return end()

        return ended


def measured(meter: AnswerMeter, turn: Turn = TOLD) -> AnswerJoules:
    with meter.over() as window:
        pass
    return window.joules(turn)


def test_an_answer_that_is_left_closes_its_window():
    counters = FakeCounters(5.0)
    meter = AnswerMeter(WindowMeter(counters))
    with pytest.raises(KeyError), meter.over() as window:
        raise KeyError
    assert counters.windows == 1
    window.close()
    assert counters.windows == 1


def test_a_window_ends_with_the_answer_and_not_when_it_is_read():
    clock, counters = FakeClock(100.0), FakeCounters()
    with AnswerMeter(WindowMeter(counters, False, clock)).over() as window:
        counters.spend(7.0)
        clock.pass_s(2.0)
    counters.spend(70.0)
    clock.pass_s(20.0)
    assert window.joules(TOLD) == AnswerJoules(EndJoules(7.0, 12.0), None, 100.0, 102.0)


def test_without_a_meter_there_is_what_the_base_station_told():
    assert measured(AnswerMeter()) == AnswerJoules(EndJoules(basestation_j=12.0))
    assert measured(AnswerMeter(), Turn(answers=1, tokens=4, llm_forwards=4)) == AnswerJoules()


@pytest.mark.parametrize("at", ["begin", "end"])
def test_counters_that_fail_are_said_once_and_asked_no_more(at, caplog):
    counters = Breaking(at, after=1)
    meter = AnswerMeter(WindowMeter(counters))
    with caplog.at_level(logging.WARNING):
        first, *others = [measured(meter) for _ in range(4)]
    assert first.ends == EndJoules(5.0, 12.0)
    # What the base station tells of itself is not lost with them.
    assert others == [AnswerJoules(EndJoules(basestation_j=12.0), NO_COUNTERS)] * 3
    assert counters.asked == 2
    (said,) = caplog.messages
    assert "NVML is gone" in said


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (UncoveredError("/secret/wall.csv ends early"), "the wall meter's file does not reach over this answer"),
        (FileNotFoundError("/secret/wall.csv"), "the wall meter's file cannot be read"),
        (RuntimeError("/secret/wall.csv"), "the wall meter's file cannot be read"),
    ],
)
def test_file_that_does_not_do_is_said_to_the_client_without_its_path_and_once_in_the_log_with_it(error, note, caplog):
    files = [error, error, None]

    def read(window: Measured) -> Measured:
        if (failure := files.pop(0)) is not None:
            raise failure
        return replace(window, device_j=3.0)

    meter = AnswerMeter(WindowMeter(None, False, FakeClock(100.0)), read)
    with caplog.at_level(logging.WARNING):
        answers = [measured(meter) for _ in range(3)]
    assert answers[:2] == [AnswerJoules(EndJoules(basestation_j=12.0), note, 100.0, 100.0)] * 2
    # It is opened anew for each answer.
    assert answers[2] == AnswerJoules(EndJoules(3.0, 12.0), None, 100.0, 100.0)
    (said,) = caplog.messages
    assert "/secret/wall.csv" in said


def test_base_station_with_a_wall_meter_of_its_own_is_not_taken_at_its_word():
    def read(window: Measured) -> Measured:
        raise UncoveredError("too early")

    assert measured(AnswerMeter(WindowMeter(None), read, wall_basestation=True)).ends == EndJoules()
