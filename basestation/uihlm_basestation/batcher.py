"""One engine, many sessions: forwards run in one thread, off the event loop, and whoever waits together goes together.

The batcher never waits for company: a part that finds the engine free starts at once; what arrives meanwhile is the next
forward, at most one part a session.

    a forward = every short request that waits + at most `chunk` positions of the long ones,
                of these the one that has waited longest and whoever the engine computes together with it

A request is long if its head (chunks.py) exceeds SHORT positions: a prompt, a chat turn, a cache to be run again. Long ones
take turns: the chunk goes to those that have run least, so a verdict never waits for more than a chunk of another session's
prompt. A session that is alone is never cut: there is nobody to stall, and its batches have the shapes they always had.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from uihlm_basestation.chunks import Request
from uihlm_basestation.counters import EnergyCounters
from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.forwards import Forwards, Outcome, Rows
from uihlm_basestation.parts import Forwarded, GoOn, Part, Waiting, first, last
from uihlm_models.forward_thread import ForwardThread

# What rides with a verdict (skipped tokens, the last correction) is rarely longer.
SHORT = 16
DEFAULT_CHUNK = 64


class Batcher:
    """Feeds an engine from an event loop. Use on one loop only."""

    def __init__(
        self,
        engine: Engine,
        *,
        chunk: int = DEFAULT_CHUNK,
        max_batch: int | None = None,
        counters: EnergyCounters | None = None,
    ) -> None:
        """Start the engine's thread.

        Args:
            engine: whose forwards these are.
            chunk: most positions of long requests in one forward that others may wait for, at least 1.
            max_batch: most parts in one forward; None is as many as the engine has caches.
            counters: of joules, read around each forward; None measures none.
        """
        self._engine = engine
        self._forwards = Forwards(engine, counters)
        self._chunk = chunk
        self._width = min(engine.caches, max_batch or engine.caches)
        # A thread of our own: an executor's futures would cross the loop twice more a round.
        self._thread = ForwardThread("engine")
        self._sessions: set[int] = set()
        self._waiting: list[Waiting] = []
        self._batch: list[Part] = []  # what runs now
        # Parts of a batch that failed, which run again one by one.
        self._again: list[Part] = []
        # Of a session's tree that was cut: how many of its leading nodes the engine knows as plain ids.
        self._cut: dict[int, int] = {}
        self._answers: deque[tuple[asyncio.Future[Forwarded], Forwarded]] = deque()
        self._answering = False
        self._owed = False  # a long request had no part in the last forward
        self._running = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, work: Work, go_on: GoOn | None = None) -> asyncio.Future[Forwarded]:
        """Hand one part in; the future is its share of the forward that takes it.

        With `go_on` the engine may go on after it, while nobody else waits: then the share is of all these forwards.
        """
        if cut := self._cut.pop(work.session, 0):
            work = replace(work, path=[node - cut for node in work.path if node >= cut])
        self._sessions.add(work.session)
        done: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(Request(work), time.perf_counter(), done, go_on))
        self._start()
        return done

    @property
    def waiting(self) -> int:
        """Requests that wait for the engine."""
        return len(self._waiting)

    async def forward(self, work: Work) -> Forwarded:
        """Run one part in the next forward and return its share of it."""
        return await self.submit(work)

    def close_session(self, session: int) -> None:
        """Forget a session's cache, after any forward that is under way; nobody waits for it.

        Not a coroutine: a call is cancelled at any point when its device is lost, and this must happen all the same.
        """
        for waiting in (*self._waiting, *(part.waiting for part in (*self._batch, *self._again))):
            if waiting.session == session:
                waiting.done.cancel()
        self._sessions.discard(session)
        self._cut.pop(session, None)
        if not self._closed:  # with the batcher the engine goes, and every cache
            self._thread.put(lambda: self._engine.close_session(session))

    async def close(self) -> None:
        """Finish what waits and stop the thread."""
        self._closed = True
        await self._idle.wait()
        self._thread.end()
        await asyncio.to_thread(self._thread.join)

    def _start(self) -> None:
        """Start the next forward if the engine is free."""
        if self._running:
            return
        if not self._waiting and not self._again:
            # Said without looking further: whoever has just been answered goes on only after this.
            self._batch = []
            self._idle.set()
            return
        # Those whose device left are left out: a forward would bring their session back.
        self._waiting = [waiting for waiting in self._waiting if not waiting.done.done()]
        batch: list[Part] = []
        # One bad part must not take its neighbours down: those of a failed batch go alone, so that each gets its own answer.
        while self._again and not batch:
            batch = [part for part in [self._again.pop(0)] if not part.waiting.done.done()]
        if not batch:
            batch = self._compose()
            chosen = {id(part.waiting) for part in batch}
            self._waiting = [waiting for waiting in self._waiting if id(waiting) not in chosen]
        self._batch = batch
        if not batch:
            self._idle.set()
            return
        self._running = True
        self._idle.clear()
        loop = asyncio.get_running_loop()
        self._thread.put(
            lambda: loop.call_soon_threadsafe(self._finish, batch, self._forwards.run(batch, self._others))
        )

    def _others(self) -> bool:
        """Return whether somebody waits for the engine; asked in its thread."""
        return bool(self._waiting or self._again)

    def _compose(self) -> list[Part]:
        """Choose who goes next: every short request, and long ones in turn until the chunk is full."""
        alone = len(self._sessions) == 1
        if alone and len(self._waiting) == 1:
            # As below, in a tenth of the time: nobody else is to be thought of.
            (waiting,), self._owed = self._waiting, False
            waiting.request.missing = self._engine.missing(waiting.request.last())
            return [last(waiting)]
        short: list[Waiting] = []
        long: list[Waiting] = []
        for waiting in self._waiting:
            request = waiting.request
            request.missing = self._engine.missing(request.last())
            brief = request.head <= SHORT and not waiting.started
            (short if alone or brief else long).append(waiting)
        # Whoever is new among them has nothing to make up for.
        floor = min((waiting.served for waiting in long if waiting.started), default=0)
        for waiting in long:
            if waiting.served < 0:
                waiting.served = floor
        long.sort(key=lambda waiting: (waiting.served, waiting.request.head))
        # Where not everybody fits, neither kind may keep the other out for ever.
        order = [*long[:1], *short, *long[1:]] if self._owed else [*short, *long]
        cut = {id(waiting) for waiting in long}
        # A request that has started keeps its cache until it is through; one cache is left for those that are short.
        started = sum(waiting.started for waiting in self._waiting)
        seats, starts = self._engine.caches - started, max(1, self._engine.caches - 1) - started
        budget = self._chunk
        batch: list[Part] = []
        for waiting in order:
            request, n = waiting.request, 0
            if id(waiting) in cut:
                n = min(budget, request.head)
            whole = n == request.head or id(waiting) not in cut
            if len(batch) == self._width or (n == 0 and not whole):
                continue
            if not waiting.started:
                if seats <= 0 or (not whole and starts <= 0):
                    continue
                seats, starts = seats - 1, starts - (not whole)
            budget -= n
            batch.append(last(waiting) if whole else first(waiting, n))
        batch = self._together(batch)
        self._owed = bool(long) and not any(id(part.waiting) in cut for part in batch)
        # Answered in this order, neighbours ask again together, and neighbouring caches are what llama.cpp runs as one batch.
        return sorted(batch, key=lambda part: part.waiting.session)

    def _together(self, batch: list[Part]) -> list[Part]:
        """Return those that the engine computes together with the part that has waited longest."""
        if len(batch) < 2:
            return batch
        places = {id(waiting): place for place, waiting in enumerate(self._waiting)}
        oldest = min(batch, key=lambda part: places[id(part.waiting)])
        others = [part.waiting.session for part in batch if part is not oldest]
        beside = set(self._engine.beside(oldest.waiting.session, others))
        return [part for part in batch if part is oldest or part.waiting.session in beside]

    def _finish(self, batch: Sequence[Part], outcome: Outcome) -> None:
        self._running, self._batch = False, []
        if not isinstance(outcome.rows, Exception):
            self._share(batch, outcome.rows, outcome)
        elif len(batch) > 1:
            self._again.extend(batch)
        elif not batch[0].waiting.done.done():
            batch[0].waiting.done.set_exception(outcome.rows)
        self._start()

    def _share(self, batch: Sequence[Part], rows: Rows, outcome: Outcome) -> None:
        """Give every part its share of the forward's seconds and joules, by positions, and answer those that are through."""
        took_s, spent_j, further = outcome.took_s, outcome.spent_j, outcome.further
        positions = sum(part.positions for part in batch)
        for part, own in zip(batch, rows, strict=True):
            waiting = part.waiting
            queue_s = outcome.started_s - waiting.since_s - waiting.forward_s
            waiting.share_s += took_s * part.positions / positions
            waiting.share_j += (spent_j or 0.0) * part.positions / positions
            waiting.forward_s += took_s
            waiting.positions += part.positions + further
            waiting.served += part.positions
            waiting.forwards += 1 + further
            if waiting.done.done():
                continue
            if not part.last:
                waiting.request.note(part.work)
                self._waiting.append(waiting)
                continue
            if waiting.request.ran and waiting.request.work.parents is not None:
                self._cut[waiting.session] = waiting.request.ran
            share_j = None if spent_j is None else waiting.share_j
            forwarded = Forwarded(own, waiting.share_s, queue_s, waiting.positions, waiting.forwards, share_j)
            self._answers.append((waiting.done, forwarded))
        if not self._answering:
            self._answer()

    def _answer(self) -> None:
        """Answer whoever was ready first, and the rest a turn of the event loop later each.

        Whoever is answered does its arithmetic on the loop: between two of them others have their turn there.
        """
        if self._answers:
            done, forwarded = self._answers.popleft()
            if not done.done():
                done.set_result(forwarded)
        self._answering = bool(self._answers)
        if self._answering:
            asyncio.get_running_loop().call_soon(self._answer)
