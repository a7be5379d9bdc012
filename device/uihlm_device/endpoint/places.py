"""A few drafters for many requests: who writes now, who waits, who is sent away.

A drafter's cache holds one sequence, so an answer has a drafter to itself from its first token to its last: two answers that
took turns on one would run their prompts again at every turn. Requests beyond the drafters wait in the order they came;
beyond those that may wait they are told when to come again.

Of the drafters that are free, a request gets the one whose cache it would go on with; where it would throw away more than it
finds, the one that was used longest ago.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from uihlm_device.drafters.drafter import Drafter
from uihlm_proto.errors import ExhaustedError, UnavailableError

# Before any answer has been written, and how fast later ones change the mean.
_FIRST_GUESS_S = 5.0
_NEW_SHARE = 0.2
_LONGEST_RETRY_S = 600.0


@dataclass(slots=True)
class Place:
    """One drafter and the thread that runs it.

    Attributes:
        drafter: whose cache is written to by nobody else.
        held: ids that the cache holds.
        thread: where answers are written, one at a time.
        taken_s: when the answer under way began.
    """

    drafter: Drafter
    held: list[int] = field(default_factory=list)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "uihlm-writer"))
    taken_s: float = 0.0

    def shared(self, ids: Sequence[int]) -> int:
        """Return how many of the first ids the cache holds."""
        pairs = zip(self.held, ids, strict=False)
        return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(self.held), len(ids)))


class Places:
    """Every drafter of an endpoint. Use on one event loop only."""

    def __init__(self, drafters: Sequence[Drafter], max_waiting: int) -> None:
        """Let at most `max_waiting` requests wait."""
        self._all = [Place(drafter) for drafter in drafters]
        self._free = list(self._all)
        self._max_waiting = max_waiting
        self._queue: deque[tuple[asyncio.Future[Place], Sequence[int]]] = deque()
        self._mean_s = _FIRST_GUESS_S

    @property
    def busy(self) -> int:
        """Answers being written."""
        return len(self._all) - len(self._free)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    async def take(self, ids: Sequence[int]) -> Place:
        """Wait for a drafter; give it back with `give`.

        Raises:
            ExhaustedError: if as many wait already as may.
        """
        if self._free:
            return self._best(ids)
        if len(self._queue) >= self._max_waiting:
            raise ExhaustedError(
                f"{self.busy} answers are being written and {len(self._queue)} requests wait, as many as may: come again "
                "later, or serve with a larger --max-waiting",
                self._retry_after_s(),
            )
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, ids))
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                # Its turn had come in the same moment.
                self._hand_on(turn.result())
            self._queue = deque(ticket for ticket in self._queue if ticket[0] is not turn)
            raise

    def give(self, place: Place) -> None:
        """Give a drafter back after an answer."""
        self._mean_s += _NEW_SHARE * (time.monotonic() - place.taken_s - self._mean_s)
        self._hand_on(place)

    async def close(self) -> None:
        """Send away who waits, and return once every thread has finished what it does."""
        for ticket, _ in self._queue:
            if not ticket.done():
                ticket.set_exception(UnavailableError("this endpoint is shutting down: come again later"))
        self._queue.clear()
        for place in self._all:
            await asyncio.to_thread(place.thread.shutdown)

    def _hand_on(self, place: Place) -> None:
        self._free.append(place)
        while self._queue and self._free:
            ticket, ids = self._queue.popleft()
            if not ticket.done():
                ticket.set_result(self._best(ids))

    def _best(self, ids: Sequence[int]) -> Place:
        def gain(place: Place) -> int:
            """Positions found, less those thrown away."""
            return 2 * place.shared(ids) - len(place.held)

        place = max(self._free, key=gain)
        if gain(place) <= 0:
            # They stand in the order in which they were given back.
            place = self._free[0]
        self._free.remove(place)
        place.taken_s = time.monotonic()
        return place

    def _retry_after_s(self) -> float:
        """Return when a place in the queue should be free, seconds."""
        return min(_LONGEST_RETRY_S, max(1.0, self._mean_s / len(self._all)))
