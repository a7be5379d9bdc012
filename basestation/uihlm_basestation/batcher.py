"""One engine, many sessions: forwards run in one thread, off the event loop, and whoever waits together goes together.

The batcher never waits for company: when the engine is free it takes every part that waits (at most one a session) and
runs them as one forward; what arrives meanwhile is the next forward.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from uihlm_basestation.engine import Engine, Work

T = TypeVar("T")


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
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._waiting: list[_Waiting] = []
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    async def forward(self, work: Work) -> Forwarded:
        """Run one part in the next forward and return its share of it."""
        waiting = _Waiting(work, time.perf_counter(), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run())
        return await waiting.done

    def close_session(self, session: int) -> None:
        """Forget a session's cache, after any forward that is under way; nobody waits for it.

        Not a coroutine: a call is cancelled at any point when its device is lost, and this must happen all the same.
        """
        for waiting in self._waiting:
            if waiting.work.session == session:
                waiting.done.cancel()
        if not self._closed:  # with the batcher the engine goes, and every cache
            self._thread.submit(self._engine.close_session, session)

    async def close(self) -> None:
        """Finish the forward under way and stop the thread."""
        self._closed = True
        if self._pump is not None:
            await self._pump
        await asyncio.to_thread(self._thread.shutdown, True)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [waiting for waiting in self._waiting if not waiting.done.done()]
                self._waiting = []
                if batch:
                    await self._forward(batch)
        finally:
            self._pump = None

    async def _forward(self, batch: Sequence[_Waiting]) -> None:
        works = [w.work for w in batch]
        try:
            started_s, ended_s, rows = await self._in_thread(lambda: self._timed(works))
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0], error)
                return
            # One bad part must not take its neighbours down: run them one by one, so that each gets its own answer.
            for waiting in batch:
                # One whose device left meanwhile must not bring its session back.
                if not waiting.done.done():
                    await self._forward([waiting])
            return
        positions = sum(len(w.new_ids) for w in works)
        for waiting, own in zip(batch, rows, strict=True):
            share = len(waiting.work.new_ids) / positions
            if not waiting.done.done():
                waiting.done.set_result(
                    Forwarded(
                        own, (ended_s - started_s) * share, started_s - waiting.since_s, len(waiting.work.new_ids)
                    )
                )

    def _timed(self, works: Sequence[Work]) -> tuple[float, float, list[npt.NDArray[np.float32]]]:
        started_s = time.perf_counter()
        rows = self._engine.forward(works)
        return started_s, time.perf_counter(), rows

    @staticmethod
    def _fail(waiting: _Waiting, error: Exception) -> None:
        if not waiting.done.done():
            waiting.done.set_exception(error)
