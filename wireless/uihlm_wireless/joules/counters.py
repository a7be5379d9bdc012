"""Counters of energy, and the meter that reads them around an answer.

    J = E(end) − E(start)        E: what the machine's counters have counted, all domains together

Counters know a machine, not a program: whatever else runs there meanwhile is in J, and so is what an idle machine draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class EnergyCounters(Protocol):
    """The energy counters of one machine. Several windows may be open at once."""

    @property
    def domains(self) -> Sequence[str]:
        """What is counted, by name: "gpu0", "cpu0", "dram0", "soc"."""

    def begin(self) -> Callable[[], float]:
        """Begin a window; call what is returned once, to end it: the joules of all domains in between."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What meters say of one window of time.

    Attributes:
        started_unix_s, ended_unix_s: its ends on the wall clock, seconds since 1970 (UTC).
        device_j: joules of the device's machine; None where no meter read it, or not apart.
        basestation_j: of the base station's.
        machine_j: of one machine that is both.
    """

    started_unix_s: float
    ended_unix_s: float
    device_j: float | None = None
    basestation_j: float | None = None
    machine_j: float | None = None

    @property
    def duration_s(self) -> float:
        """How long it was."""
        return self.ended_unix_s - self.started_unix_s


class Asking:
    """Asks counters until they fail, and never again: what they count is not worth an answer.

    Attributes:
        failure: what they failed with; None while they answer.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def ask(self, count: Callable[[], T]) -> T | None:
        """Return what `count` returns; None where the counters fail now or failed before."""
        if self.failure is None:
            try:
                return count()
            except Exception as error:
                self.failure = error
        return None


class WindowMeter:
    """Notes when an answer began and ended, and what the counters of this machine counted meanwhile, if it has any."""

    def __init__(
        self, counters: EnergyCounters | None = None, shared: bool = False, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Prepare to measure.

        Args:
            counters: of this machine; None notes times alone, for a meter that is read later.
            shared: whether the base station runs on this machine too: then what they count is both ends', never split.
            wall_clock: seconds since 1970.
        """
        self._counters = counters
        self._shared = shared
        self._wall_clock = wall_clock

    def begin(self) -> Callable[[], Measured]:
        """Begin a window; call what is returned once, to end it."""
        started_s = self._wall_clock()
        spent = None if self._counters is None else self._counters.begin()

        def end() -> Measured:
            joules = None if spent is None else spent()
            window = (started_s, self._wall_clock())
            return Measured(*window, machine_j=joules) if self._shared else Measured(*window, device_j=joules)

        return end
