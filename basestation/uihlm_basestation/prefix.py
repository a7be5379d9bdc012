"""What a session's two ends agree on, as ids, and how much of it the LLM has run.

    ids   i₀ … i_r │ … i_n        the first `ran` of them are in the engine's cache, the rest ride on the next forward
    row   logits after the last id, while every id has been run

The last id is the LLM's own word and is run with the next upload; or at once (`run_on`) where the device has said that it
will draft the very next token: then that forward takes place while verdict and upload are on their way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.parts import Forwarded, GoOn
from uihlm_basestation.verification import prepare
from uihlm_proto.codecs import Judge
from uihlm_proto.randomness import Draws
from uihlm_proto.v1 import verification_pb2 as pb

# Making draws holds the interpreter: the engine's thread must have entered its forward by then.
_HEAD_START_S = 0.001
_CROWD = 2


class Prefix:
    """The ids of one session and the forwards over them.

    Attributes:
        session: whose they are.
        ids: all that are known here.
        ran: how many of them the engine has run.
        path: of the last forward's tree, the nodes that stand: they are among the `ran`, and the next forward keeps them.
        row: logits `[V]` after the last id run, while every id has been run.
        draws: of the session's key.
        stop_ids: ids that end an answer.
    """

    def __init__(self, session: int, engine: Engine, batcher: Batcher, draws: Draws) -> None:
        self.ids: list[int] = []
        self.ran = 0
        self.path: Sequence[int] = ()
        self.row: npt.NDArray[np.float32] | None = None
        self.draws = draws
        self.stop_ids = engine.stop_ids
        self.session = session
        self._engine = engine
        self._batcher = batcher
        # The forward that nobody asked for yet; what it cost, until a verdict tells; whether one is counted that did not run.
        self._running: asyncio.Future[Forwarded] | None = None
        self._owed: Forwarded | None = None
        self._counted = False

    async def prefill(self, ids: list[int]) -> Forwarded:
        """Run the session's first ids."""
        forwarded = await self._batcher.forward(Work(self.session, 0, ids, 1))
        self.ids, self.ran, self.row = ids, len(ids), forwarded.rows[-1]
        return forwarded

    async def rows(
        self, after: list[int], first: int, count: int, judge: Judge, position: int
    ) -> tuple[npt.NDArray[np.float32], Forwarded | None]:
        """Return the rows of `count` positions from `first` on, `[count, V]`, of the ids with `after` behind them.

        One may be at hand; the others take a forward, which is returned too.
        """
        # What is known is not copied: contexts are long, and rounds many.
        start = min(self.ran, len(self.ids))
        run = [*self.ids[start:], *after][self.ran - start : first + count - 1 - start]
        at_hand = self.row[np.newaxis] if self.row is not None and first == self.ran else None
        if not run:
            assert at_hand is not None, "with nothing to run, the last row is at hand"
            return at_hand, None
        forwarded = await self.forward(run, count if at_hand is None else count - 1, judge, position)
        return forwarded.rows if at_hand is None else np.concatenate([at_hand, forwarded.rows]), forwarded

    async def forward(
        self, run: list[int], rows: int, judge: Judge, position: int, parents: Sequence[int] | None = None
    ) -> Forwarded:
        """Run ids, a chain or a tree, after those that ran."""
        forwarded = await self._submit(run, rows, judge, position, parents)
        self.path = ()
        return forwarded

    def next_row(self, judge: Judge, go_on: GoOn | None = None) -> asyncio.Future[Forwarded]:
        """Start the forward of all that has not run, whose one row says what follows; the caller goes on with other things.

        With `go_on` the engine may go on after it, while nobody else waits for it.
        """
        return self._submit(self.ids[self.ran :], 1, judge, len(self.ids), go_on=go_on)

    def take(self, forwarded: Forwarded) -> None:
        """Take the row that `next_row` asked for."""
        self.row, self.ran, self.path = forwarded.rows[-1], len(self.ids), ()

    def append(self, tokens: Sequence[int]) -> None:
        """Take what the LLM wrote, at least one token: all but the last have been run."""
        self.ids += tokens
        self.ran, self.row = len(self.ids) - 1, None

    def run_on(self, when: pb.RunOn, judge: Judge) -> None:
        """Run what has not run before an upload asks for it, or count it so; nothing where an answer has ended."""
        if when == pb.RUN_ON_UNSPECIFIED or self.ids[-1] in self.stop_ids:
            return
        if len(self.ids) >= self._engine.max_context:
            return
        if when == pb.RUN_ON_NOW:
            self._running = self.next_row(judge)
        else:
            self._counted = True

    async def settle(self, more: bool) -> None:
        """Wait for the forward that `run_on` started, if one did; `more` says that the upload needs another one after it."""
        self._counted = self._counted and not more
        if self._running is not None:
            running, self._running = self._running, None
            self._owed = await running
            self.take(self._owed)

    def bill(self, ran: Forwarded | None) -> pb.Cost:
        """Return what a verdict cost, given the forward made for it, if any, and what ran before it was asked for."""
        earlier, self._owed = self._owed, None
        counted, self._counted = self._counted, False
        made = ran if earlier is None else earlier if ran is None else earlier.plus(ran)
        if made is None:
            return pb.Cost()
        cost = made.cost
        cost.ran_on = counted or (earlier is not None and ran is None)
        return cost

    def _submit(
        self,
        run: list[int],
        rows: int,
        judge: Judge,
        position: int,
        parents: Sequence[int] | None = None,
        go_on: GoOn | None = None,
    ) -> asyncio.Future[Forwarded]:
        """Hand a forward in, and make the draws that judge `position` while it runs."""
        # In a crowd the loop has enough to do while the engine runs.
        crowd = self._batcher.waiting >= _CROWD
        forward = self._batcher.submit(Work(self.session, self.ran, run, rows, parents, self.path), go_on)
        if not self._batcher.waiting:
            # The engine's thread needs the interpreter to begin, and would not have it before this one has nothing to do.
            time.sleep(0)
        if not crowd:
            ahead = asyncio.get_running_loop().call_later(
                _HEAD_START_S, prepare, self.draws, judge, position, self._engine.vocabulary_size
            )
            forward.add_done_callback(lambda _: ahead.cancel())
        return forward
