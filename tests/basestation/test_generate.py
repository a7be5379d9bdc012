"""`generate`: the engine runs on while a verdict is on its way, and whoever leaves leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc

import pytest

from fakes import FakeEngine, contextual
from sessions import PREFIX, opened
from uihlm_basestation.batcher import Batcher
from uihlm_proto.errors import UihlmError
from uihlm_proto.v1 import verification_pb2 as pb

V = 12


class CountingEngine(FakeEngine):
    """Counts its forwards, and fails from one of them on."""

    def __init__(self, fails_from: int | None = None) -> None:
        super().__init__(contextual(V, salt=1), V)
        self.forwards = 0
        self.fails_from = fails_from

    def forward(self, work):
        self.forwards += 1
        if self.fails_from is not None and self.forwards >= self.fails_from:
            raise UihlmError("the engine broke")
        return super().forward(work)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_the_next_forward_runs_while_a_verdict_is_written():
    async def scene():
        engine = CountingEngine()
        batcher = Batcher(engine)
        session = await opened(engine, batcher)
        verdicts = session.upload(pb.Upload(first_position=len(PREFIX), generate=5))
        # The prefill's row gives the first token; nobody has asked for the second.
        first = await anext(verdicts)
        assert not first.last and first.cost.forwards == 0
        await until(lambda: engine.forwards == 2)
        rest = [verdict async for verdict in verdicts]
        assert [verdict.cost.forwards for verdict in rest] == [1, 1, 1, 1]
        assert rest[-1].last
        await batcher.close()
        # Nothing runs for a token that will not be drawn.
        assert engine.forwards == 5

    asyncio.run(scene())


@pytest.mark.parametrize("fails_from", [None, 2])
def test_whoever_leaves_in_the_middle_leaves_nothing_to_be_logged(fails_from):
    complaints = []

    async def scene():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        engine = CountingEngine(fails_from)
        batcher = Batcher(engine)
        session = await opened(engine, batcher)
        verdicts = session.upload(pb.Upload(first_position=len(PREFIX), generate=5))
        await anext(verdicts)
        await until(lambda: engine.forwards == 2)
        await asyncio.sleep(0.01)
        await verdicts.aclose()
        await batcher.close()
        assert engine.forwards == 2
        del verdicts, session
        gc.collect()

    asyncio.run(scene())
    gc.collect()
    assert not complaints


def test_a_failure_comes_where_its_token_would_have_come():
    async def scene():
        engine = CountingEngine(fails_from=2)
        batcher = Batcher(engine)
        session = await opened(engine, batcher)
        verdicts = session.upload(pb.Upload(first_position=len(PREFIX), generate=5))
        await anext(verdicts)
        with pytest.raises(UihlmError, match="the engine broke"):
            await anext(verdicts)
        await batcher.close()

    asyncio.run(scene())
