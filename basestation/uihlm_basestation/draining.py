"""A base station that shuts down: a session in a round finishes it, every other one is told to go elsewhere at once.

waiting for a message   UNAVAILABLE now
in a round              its verdicts, then UNAVAILABLE
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from uihlm_proto.errors import UnavailableError

T = TypeVar("T")


class Draining:
    """Which calls wait for their device's next message. Use on one event loop only.

    Attributes:
        begun: whether the base station is shutting down.
    """

    def __init__(self) -> None:
        self.begun = False
        self._waiting: set[asyncio.Task[object]] = set()

    def check(self) -> None:
        """Raise UnavailableError if the base station is shutting down."""
        if self.begun:
            raise UnavailableError("this base station is shutting down: connect to another one, or again later")

    def begin(self) -> None:
        """Tell every call that waits to leave, and every other one when it comes to wait."""
        self.begun = True
        for task in self._waiting:
            task.cancel()

    async def requests(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield a call's messages as they come.

        Raises:
            UnavailableError: when the next one would be waited for while the base station shuts down.
        """
        task = asyncio.current_task()
        assert task is not None, "a call runs in a task"
        spoken = False
        while True:
            if spoken:
                self.check()
            # A new call is refused once it has spoken: a device whose first write fails never gets to read why.
            self._waiting.add(task)
            try:
                request = await anext(source)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                # A call may be cancelled for itself as well: its device has gone, and nobody reads what we say.
                if self.begun:
                    task.uncancel()
                self.check()
                raise
            finally:
                self._waiting.discard(task)
            spoken = True
            yield request
