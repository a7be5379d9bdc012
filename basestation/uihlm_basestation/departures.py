"""When will a place be free? A guess for those who find none.

    retry after = the mean time between the latest departures, 1 … 60 s

It is no promise: whoever asks first gets the place.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_LATEST = 16
_LEAST_S = 1.0
_MOST_S = 60.0
# Nobody has left yet.
_UNKNOWN_S = 5.0


class Departures:
    """The latest ends of sessions."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Keep time by `now`, in seconds."""
        self._now = now
        self._times: deque[float] = deque(maxlen=_LATEST)

    def note(self) -> None:
        """Take note that a session has ended now."""
        self._times.append(self._now())

    def retry_after_s(self) -> float:
        """Return how long to wait before asking for a place again, in whole seconds."""
        if not self._times:
            return _UNKNOWN_S
        between_s = (self._now() - self._times[0]) / len(self._times)
        return float(round(min(max(between_s, _LEAST_S), _MOST_S)))
