"""Joules of each answer as they were measured: a window on a meter, closed however the answer ends.

A counter knows a machine, not an answer: with a meter, no two answers are written at once. Whatever fails here costs no answer
but its joules: the log says why, once, and the answer's usage that it was not measured.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from uihlm_device.turn import Turn
from uihlm_wireless.joules.counters import Asking, Measured, WindowMeter
from uihlm_wireless.joules.ends import EndJoules
from uihlm_wireless.joules.wall_meter import UncoveredError

_LOG = logging.getLogger(__name__)

# What clients are told. Paths and the like are for the log alone.
_NO_COUNTERS = "the energy counters cannot be read any more"
_UNCOVERED = "the wall meter's file does not reach over this answer"
_UNREADABLE = "the wall meter's file cannot be read"

Read = Callable[[Measured], Measured]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AnswerJoules:
    """What meters say of one answer.

    Attributes:
        ends: joules, as far as they were measured.
        note: why what was to be measured was not; None where all was, or nothing was to be.
        started_unix_s, ended_unix_s: when it was written, on the wall clock; None without a meter.
    """

    ends: EndJoules = field(default_factory=EndJoules)
    note: str | None = None
    started_unix_s: float | None = None
    ended_unix_s: float | None = None


class AnswerWindow:
    """The window of one answer, from its prompt to its last token."""

    def __init__(self, meter: AnswerMeter, end: Callable[[], Measured] | None) -> None:
        self._meter = meter
        self._end = end
        self._measured: Measured | None = None

    def close(self) -> None:
        """End the window; a second time is none."""
        end, self._end = self._end, None
        if end is not None:
            self._measured = self._meter.counted(end)

    def joules(self, turn: Turn) -> AnswerJoules:
        """Return what meters say of the answer, once its window is closed: this end's, and what the base station told."""
        return self._meter.joules(self._measured, turn)


class AnswerMeter:
    """Opens a window for each answer; without a meter, what the base station tells of itself is all there is."""

    def __init__(
        self, window: WindowMeter | None = None, read: Read | None = None, wall_basestation: bool = False
    ) -> None:
        """Measure with `window`.

        Args:
            window: of this machine; None measures nothing.
            read: puts the joules of a wall meter's file into a window, as far as the file has come; None where there is none.
            wall_basestation: whether that file is of the base station too: then what it tells of itself takes no part.
        """
        self._window = window
        self._read = read
        self._wall_basestation = wall_basestation
        self._asking = Asking()
        self._said: set[str] = set()

    @contextlib.contextmanager
    def over(self) -> Iterator[AnswerWindow]:
        """Measure what is written inside; the window is closed behind it, whatever happened there."""
        window = AnswerWindow(self, None if self._window is None else self.counted(self._window.begin))
        try:
            yield window
        finally:
            window.close()

    def counted(self, count: Callable[[], T]) -> T | None:
        """Ask the counters; where they fail, say so and measure no more."""
        counted = self._asking.ask(count)
        if self._asking.failure is not None:
            self._say(_NO_COUNTERS, self._asking.failure)
        return counted

    def joules(self, measured: Measured | None, turn: Turn) -> AnswerJoules:
        """Return the joules of an answer from its window, None where it had none, and its sums."""
        if measured is None:
            note = None if self._asking.failure is None else _NO_COUNTERS
            return AnswerJoules(self._with_told(EndJoules(), turn), note)
        note = None
        if self._read is not None:
            try:
                measured = self._read(measured)
            except Exception as error:
                note = _UNCOVERED if isinstance(error, UncoveredError) else _UNREADABLE
                self._say(note, error)
        ends = EndJoules(measured.device_j, measured.basestation_j, measured.machine_j)
        return AnswerJoules(self._with_told(ends, turn), note, measured.started_unix_s, measured.ended_unix_s)

    def _with_told(self, ends: EndJoules, turn: Turn) -> EndJoules:
        if self._wall_basestation:
            return ends
        return ends.with_told(turn.measured_basestation_j, turn.llm_forwards)

    def _say(self, note: str, error: Exception) -> None:
        if note not in self._said:
            self._said.add(note)
            _LOG.warning(
                "an answer's joules are not measured: %s: %s (said once; the usage of each answer tells)", note, error
            )
