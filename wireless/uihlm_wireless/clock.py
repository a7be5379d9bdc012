"""The clock a decode loop runs on: virtual, or real.

The loop says how long its own compute took (`advance`), asks when the answer to a round is there (`verdict_at`) and
waits for it (`wait_until`). It knows nothing else of the link. Times are seconds since the clock was made.

Both clocks may be used from two threads at once: the decode loop in one, the interceptor's event loop in another.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from uihlm_proto.errors import InvalidRequestError, ProtocolError


class Clock(Protocol):
    """What the decode loop and the interceptor ask of a clock."""

    @property
    def simulated(self) -> bool:
        """Whether time is virtual: nothing sleeps."""

    def now(self) -> float:
        """Return the time in seconds."""

    def advance(self, seconds: float) -> None:
        """Say that compute took `seconds`."""

    def verdict_at(self, round: int) -> float:
        """Return when the latest answer to `round` reaches the device; ProtocolError if none was noted."""

    def wait_until(self, at: float) -> None:
        """Return once the time is `at` or later; never goes back."""

    def note_verdict(self, round: int, at: float) -> None:
        """Say when an answer to `round` reaches the device."""


# Rounds whose answers are remembered: far more than can be in flight, and a device that serves for weeks keeps its memory.
_REMEMBERED_ROUNDS = 1 << 16


class _VerdictTimes:
    """When the latest answer to each round reaches the device; of rounds long past nothing is known."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdict_at: dict[int, float] = {}

    def verdict_at(self, round: int) -> float:
        """Return when the latest answer to `round` reaches the device; ProtocolError if none was noted."""
        with self._lock:
            if round not in self._verdict_at:
                raise ProtocolError(
                    f"no answer to round {round} has been noted: read it from the stream before asking when it came"
                )
            return self._verdict_at[round]

    def note_verdict(self, round: int, at: float) -> None:
        """Note when an answer to `round` reaches the device."""
        with self._lock:
            # The latest stands last.
            self._verdict_at.pop(round, None)
            self._verdict_at[round] = at
            if len(self._verdict_at) > _REMEMBERED_ROUNDS:
                del self._verdict_at[next(iter(self._verdict_at))]


class SimulatedClock(_VerdictTimes):
    """A virtual clock: nothing sleeps, compute is told, waiting jumps."""

    simulated = True

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def now(self) -> float:
        """Return the virtual time in seconds."""
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> None:
        """Move on by compute that took `seconds`; InvalidRequestError if that is negative or not finite."""
        _require_duration(seconds)
        with self._lock:
            self._now += seconds

    def wait_until(self, at: float) -> None:
        """Jump to `at`, or stay where the time is later already."""
        with self._lock:
            self._now = max(self._now, at)


class EnforcedClock(_VerdictTimes):
    """The real clock: compute takes its own time, waiting sleeps."""

    simulated = False

    def __init__(self) -> None:
        super().__init__()
        self._start = time.monotonic()

    def now(self) -> float:
        """Return the seconds since the clock was made."""
        return time.monotonic() - self._start

    def advance(self, seconds: float) -> None:
        """Do nothing: the compute has taken its real time. InvalidRequestError if negative or not finite."""
        _require_duration(seconds)

    def wait_until(self, at: float) -> None:
        """Sleep until `at`."""
        while (rest_s := at - self.now()) > 0.0:
            time.sleep(rest_s)


def _require_duration(seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0.0):
        raise InvalidRequestError(f"compute takes a finite number of seconds of at least 0, got {seconds}")
