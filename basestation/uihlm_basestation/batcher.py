"""One engine, many sessions: forwards run in one thread, off the event loop, and whoever waits together goes together.

The batcher never waits for company: a part that finds the engine free starts at once; what arrives meanwhile is the next
forward, at most one part a session.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_basestation.engines.engine import Engine, Work

log = logging.getLogger(__name__)

Rows = list[npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What one session got from a forward.

    Attributes:
        rows: raw logits, `[rows, V]`.
        forward_s: this session's share of the forward's seconds, by positions.
        queue_s: seconds it waited for the engine.
        positions: token positions run for it.
    """

    rows: npt.NDArray[np.float32]
    forward_s: float
    queue_s: float
    positions: int


@dataclass(slots=True)
class _Waiting:
    work: Work
    since_s: float
    done: asyncio.Future[Forwarded]


class Batcher:
    """Feeds an engine from an event loop. Use on one loop only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A thread of our own: an executor's futures would cross the loop twice more a round.
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()
        self._waiting: list[_Waiting] = []
        # Parts of a batch that failed, which run again one by one.
        self._again: list[_Waiting] = []
        self._running = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, work: Work) -> asyncio.Future[Forwarded]:
        """Hand one part in; the future is its share of the forward that takes it."""
        waiting = _Waiting(work, time.perf_counter(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._start()
        return waiting.done

    async def forward(self, work: Work) -> Forwarded:
        """Run one part in the next forward and return its share of it."""
        return await self.submit(work)

    def close_session(self, session: int) -> None:
        """Forget a session's cache, after any forward that is under way; nobody waits for it.

        Not a coroutine: a call is cancelled at any point when its device is lost, and this must happen all the same.
        """
        for waiting in (*self._waiting, *self._again):
            if waiting.work.session == session:
                waiting.done.cancel()
        if not self._closed:  # with the batcher the engine goes, and every cache
            self._jobs.put(lambda: self._engine.close_session(session))

    async def close(self) -> None:
        """Finish what waits and stop the thread."""
        self._closed = True
        await self._idle.wait()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _start(self) -> None:
        """Start the next forward if the engine is free."""
        if self._running:
            return
        # One bad part must not take its neighbours down: those of a failed batch go alone, so that each gets its own answer.
        batch: list[_Waiting] = []
        while self._again and not batch:
            batch = _live([self._again.pop(0)])
        if not batch:
            batch, self._waiting = _live(self._waiting), []
        if not batch:
            self._idle.set()
            return
        self._running = True
        self._idle.clear()
        loop = asyncio.get_running_loop()
        self._jobs.put(lambda: self._forward(batch, loop))

    def _work(self) -> None:
        """The engine's thread."""
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("a job of the engine failed")

    def _forward(self, batch: Sequence[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        """Run one forward in the engine's thread and send its outcome to the loop."""
        started_s = time.perf_counter()
        outcome: Rows | Exception
        try:
            outcome = self._engine.forward([waiting.work for waiting in batch])
        except Exception as error:
            outcome = error
        ended_s = time.perf_counter()
        loop.call_soon_threadsafe(self._finish, batch, outcome, started_s, ended_s)

    def _finish(self, batch: Sequence[_Waiting], outcome: Rows | Exception, started_s: float, ended_s: float) -> None:
        self._running = False
        if not isinstance(outcome, Exception):
            _share(batch, outcome, started_s, ended_s)
        elif len(batch) > 1:
            self._again.extend(batch)
        elif not batch[0].done.done():
            batch[0].done.set_exception(outcome)
        self._start()


def _live(batch: Sequence[_Waiting]) -> list[_Waiting]:
    """Leave out those whose device left: a forward would bring their session back."""
    return [waiting for waiting in batch if not waiting.done.done()]


def _share(batch: Sequence[_Waiting], rows: Rows, started_s: float, ended_s: float) -> None:
    """Answer every part with its rows and its share of the forward's seconds, by positions."""
    positions = sum(len(waiting.work.new_ids) for waiting in batch)
    for waiting, own in zip(batch, rows, strict=True):
        own_positions = len(waiting.work.new_ids)
        if not waiting.done.done():
            share_s = (ended_s - started_s) * own_positions / positions
            waiting.done.set_result(Forwarded(own, share_s, started_s - waiting.since_s, own_positions))
