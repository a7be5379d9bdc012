"""Whoever waits together goes together, nobody waits for company, and forwards stay off the event loop."""

import asyncio
import threading
import time

import numpy as np
import pytest

from fakes import FakeEngine, contextual
from stations import GatedEngine
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Work

V = 8
LOGITS = contextual(V, salt=4)


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


def batching(test):
    """Run an async scenario with a gated engine and its batcher, and close the batcher."""

    async def scenario():
        engine = GatedEngine(LOGITS, V)
        batcher = Batcher(engine)
        try:
            await test(engine, batcher)
        finally:
            engine.gate.set()
            await batcher.close()

    run(scenario())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


def test_one_part_goes_at_once():
    """Nobody else is coming, and it is answered all the same."""

    async def test(engine, batcher):
        forwarded = await batcher.forward(Work(1, 0, [1, 2, 3], 2))
        assert engine.batches == [1]
        assert forwarded.rows.tolist() == np.stack([LOGITS([1, 2]), LOGITS([1, 2, 3])]).tolist()
        assert forwarded.positions == 3

    batching(test)


def test_all_that_wait_go_in_the_next_forward():
    async def test(engine, batcher):
        engine.gate.clear()
        first = asyncio.create_task(batcher.forward(Work(0, 0, [1], 1)))
        await until(engine.entered.is_set)
        others = [asyncio.create_task(batcher.forward(Work(n, 0, [n % V, 2], 1))) for n in range(1, 6)]
        await asyncio.sleep(0.02)
        engine.gate.set()
        answers = await asyncio.gather(first, *others)
        assert engine.batches == [1, 5]
        for n in range(1, 6):
            assert answers[n].rows.tolist() == [LOGITS([n % V, 2]).tolist()]

    batching(test)


def test_one_after_another_when_they_come_one_after_another():
    async def test(engine, batcher):
        for n in range(4):
            await batcher.forward(Work(1, n, [n], 1))
        assert engine.batches == [1, 1, 1, 1]
        assert engine.sessions == {1: [0, 1, 2, 3]}

    batching(test)


def test_forwards_run_in_one_thread_off_the_event_loop():
    async def test(engine, batcher):
        await asyncio.gather(*(batcher.forward(Work(n, 0, [1], 1)) for n in range(5)))
        await batcher.forward(Work(9, 0, [1], 1))
        assert len(engine.threads) == 1
        assert threading.get_ident() not in engine.threads

    batching(test)


def test_the_event_loop_goes_on_during_a_forward():
    async def test(engine, batcher):
        engine.gate.clear()
        task = asyncio.create_task(batcher.forward(Work(1, 0, [1], 1)))
        await until(engine.entered.is_set)
        # The gate is shut: had the forward been on the loop, nothing after this line would run.
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        engine.gate.set()
        await task

    batching(test)


def test_seconds_are_shared_by_positions_and_waiting_is_told_apart():
    class Slow(FakeEngine):
        def forward(self, work):
            time.sleep(0.05)
            return super().forward(work)

    async def scenario():
        batcher = Batcher(Slow(LOGITS, V))
        first = asyncio.create_task(batcher.forward(Work(0, 0, [1], 1)))
        await asyncio.sleep(0.01)
        short, long = await asyncio.gather(
            batcher.forward(Work(1, 0, [1], 1)), batcher.forward(Work(2, 0, [1, 2, 3], 1))
        )
        await batcher.close()
        alone = first.result()
        assert alone.forward_s >= 0.05 and alone.queue_s < alone.forward_s
        assert long.forward_s == pytest.approx(3 * short.forward_s)
        assert short.forward_s + long.forward_s >= 0.05
        assert short.queue_s > 0.02 and long.queue_s > 0.02
        assert (short.positions, long.positions) == (1, 3)

    run(scenario())


def test_a_closed_session_is_forgotten():
    async def test(engine, batcher):
        await batcher.forward(Work(1, 0, [1], 1))
        await batcher.forward(Work(2, 0, [1], 1))
        batcher.close_session(1)
        # Unknown ones are ignored.
        batcher.close_session(77)
        await batcher.forward(Work(2, 1, [1], 1))
        assert set(engine.sessions) == {2}

    batching(test)


def test_a_session_closed_while_it_waits_is_never_run():
    async def test(engine, batcher):
        engine.gate.clear()
        first = asyncio.create_task(batcher.forward(Work(1, 0, [1], 1)))
        await until(engine.entered.is_set)
        gone = asyncio.create_task(batcher.forward(Work(2, 0, [1], 1)))
        await asyncio.sleep(0.01)
        gone.cancel()
        batcher.close_session(2)
        engine.gate.set()
        await first
        await batcher.forward(Work(3, 0, [1], 1))
        assert set(engine.sessions) == {1, 3}

    batching(test)


def test_a_session_closed_during_its_forward_is_forgotten_after_it():
    async def test(engine, batcher):
        engine.gate.clear()
        gone = asyncio.create_task(batcher.forward(Work(1, 0, [1], 1)))
        await until(engine.entered.is_set)
        gone.cancel()
        batcher.close_session(1)
        engine.gate.set()
        await batcher.forward(Work(2, 0, [1], 1))
        assert set(engine.sessions) == {2}

    batching(test)


class Fussy(FakeEngine):
    """Refuses whatever holds session 13; by itself, session 13 is refused only once the gate opens."""

    def __init__(self):
        super().__init__(LOGITS, V)
        self.gate = threading.Event()
        self.entered = threading.Event()

    def forward(self, work):
        if any(part.session == 13 for part in work):
            if len(work) == 1:
                self.entered.set()
                assert self.gate.wait(10)
            raise RuntimeError("out of luck")
        return super().forward(work)


def test_one_bad_part_fails_alone():
    async def scenario():
        engine = Fussy()
        engine.gate.set()
        batcher = Batcher(engine)
        answers = await asyncio.gather(
            *(batcher.forward(Work(n, 0, [1, 2], 1)) for n in (11, 12, 13, 14)), return_exceptions=True
        )
        for good in (answers[0], answers[1], answers[3]):
            assert good.rows.tolist() == [LOGITS([1, 2]).tolist()]
        assert isinstance(answers[2], RuntimeError)
        # The batcher is none the worse for it.
        assert (await batcher.forward(Work(15, 0, [1], 1))).positions == 1
        await batcher.close()

    run(scenario())


def test_a_session_closed_while_its_batch_is_run_one_by_one_stays_forgotten():
    """A failed batch is run again part by part; a part whose device left meanwhile must not bring its session back."""

    async def scenario():
        engine = Fussy()
        batcher = Batcher(engine)
        guilty, gone, good = (asyncio.create_task(batcher.forward(Work(n, 0, [1], 1))) for n in (13, 2, 3))
        await until(engine.entered.is_set)
        gone.cancel()
        batcher.close_session(2)
        engine.gate.set()
        await good
        await asyncio.wait([guilty])
        assert isinstance(guilty.exception(), RuntimeError)
        assert set(engine.sessions) == {3}
        await batcher.close()

    run(scenario())


def test_closing_finishes_the_forward_under_way():
    async def scenario():
        engine = GatedEngine(LOGITS, V)
        batcher = Batcher(engine)
        engine.gate.clear()
        task = asyncio.create_task(batcher.forward(Work(1, 0, [1], 1)))
        await until(engine.entered.is_set)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        engine.gate.set()
        await closing
        assert (await task).positions == 1

    run(scenario())


def test_a_session_that_is_alone_is_billed_for_what_runs_again_of_its_cache():
    class Forgetful(FakeEngine):
        def missing(self, part):
            return Work(part.session, 0, [5] * part.keep_len, 0) if part.keep_len else None

    async def played():
        batcher = Batcher(Forgetful(contextual(12, 1), 12))
        first = await batcher.forward(Work(1, 0, [5] * 40, 1))
        second = await batcher.forward(Work(1, 40, [5, 5], 1))
        await batcher.close()
        return first.positions, second.positions

    assert run(played()) == (40, 42)
