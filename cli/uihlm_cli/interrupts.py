"""Ctrl-C while an answer is written: the first one stops it, a second one ends the program.

Python's own answer to Ctrl-C, an exception at the next line that happens to run, would break two things: raised in a
callback from llama.cpp it is lost, and raised between two lines of a forward it leaves a cache that is not what it is
taken for. So a token in progress is finished first (milliseconds), and only a wait (for the base station, or for the
link in real time) is broken off at once.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

# Modules in which the decode loop does nothing but wait; all they hold at that time is closed with the stream.
_WAITS = frozenset(
    {"uihlm_device.stream.remote_session", "uihlm_wireless.clock", "threading", "concurrent.futures._base"}
)


class Interrupts:
    """Counts Ctrl-C inside its `with` block.

    Attributes:
        count: how many there were; above 0 the loop stops, above 1 the program ends.
    """

    def __init__(self) -> None:
        self.count = 0
        self._previous: Any = None

    def __enter__(self) -> Self:
        # Signals reach the main thread alone, and a program in the background may have been told to ignore this one.
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def raised(self) -> None:
        """Note a KeyboardInterrupt that came out of the loop; one of our own was counted when it was raised."""
        self.count = max(self.count, 1)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if frame is not None and frame.f_globals.get("__name__") in _WAITS:
            raise KeyboardInterrupt
