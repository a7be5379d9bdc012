"""An engine that computes neighbours together gets neighbours: whoever has waited longest, and those beside it."""

import asyncio

import pytest

from fakes import contextual
from spilling import SpillingEngine
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Work

V = 16
LOGITS = contextual(V, salt=9, window=40)
CHUNK = 24


class Row(SpillingEngine):
    """Computes sessions of consecutive numbers together, and nobody else."""

    def beside(self, session, others):
        found = set()
        for step in (-1, 1):
            place = session + step
            while place in others:
                found.add(place)
                place += step
        return found


def batching(test, caches=100):
    async def scenario():
        engine = Row(LOGITS, V, caches)
        batcher = Batcher(engine, chunk=CHUNK)
        try:
            await test(engine, batcher)
        finally:
            engine.gate.set()
            await batcher.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))


async def behind_a_gate(engine, batcher, *work):
    """Submit work while the engine is busy with session 50, so that all of it waits together; return the futures."""
    engine.gate.clear()
    engine.entered.clear()
    blocker = batcher.submit(Work(50, 0, [1], 1))
    while not engine.entered.is_set():
        await asyncio.sleep(0.002)
    waiting = [batcher.submit(part) for part in work]
    engine.gate.set()
    await blocker
    return waiting


def sessions(engine):
    """Who had a part in each forward after the first."""
    return [sorted(forward) for forward in engine.forwards[1:]]


def short(session):
    return Work(session, 0, [session % V, 3], 1)


@pytest.mark.parametrize(
    ("order", "forwards"),
    [
        ([3, 1, 2], [[1, 2, 3]]),
        ([4, 1, 2, 5, 7], [[4, 5], [1, 2], [7]]),
        ([8, 6, 4, 2], [[8], [6], [4], [2]]),
        ([2, 4, 3, 6, 8, 7, 5], [[2, 3, 4, 5, 6, 7, 8]]),
    ],
)
def test_who_has_waited_longest_goes_with_its_neighbours(order, forwards):
    async def test(engine, batcher):
        answers = await asyncio.gather(*await behind_a_gate(engine, batcher, *map(short, order)))
        assert sessions(engine) == forwards
        for session, answer in zip(order, answers, strict=True):
            assert answer.rows.tolist() == [LOGITS([session % V, 3]).tolist()]

    batching(test)


def test_who_is_through_first_is_answered_first():
    async def test(engine, batcher):
        lone, first, second = await behind_a_gate(engine, batcher, short(9), short(1), short(2))
        done = []
        for name, future in (("first", first), ("lone", lone), ("second", second)):
            future.add_done_callback(lambda _, name=name: done.append(name))
        await asyncio.gather(lone, first, second)
        assert done == ["lone", "first", "second"]
        assert lone.result().forwards == first.result().forwards == 1

    batching(test)


def test_a_crowd_that_comes_again_and_again_does_not_keep_a_lone_one_out():
    async def test(engine, batcher):
        crowd = [1, 2, 3, 4]
        engine.pause_s = 0.02  # those who were answered ask again while the next forward runs
        waiting = await behind_a_gate(engine, batcher, *map(short, crowd), short(9))
        lone = waiting.pop()
        for _ in range(3):
            await asyncio.gather(*waiting)
            waiting = [batcher.submit(short(session)) for session in crowd]
        await asyncio.gather(*waiting, lone)
        # What comes third may be the first of the crowd alone, if the others are slow: nobody waits for company.
        assert sessions(engine)[:2] == [crowd, [9]]
        assert sorted(session for forward in sessions(engine) for session in forward) == sorted([*4 * crowd, 9])

    batching(test)


@pytest.mark.parametrize("caches", [100, 4])
def test_a_long_prompt_gets_through_beside_crowds_and_they_beside_it(caches):
    """Chunks of the prompt, a crowd beside it and one apart take turns."""

    async def test(engine, batcher):
        engine.pause_s = 0.02  # those who were answered ask again while the next forward runs
        ids = [i % V for i in range(5 * CHUNK)]
        prompt, *others = await behind_a_gate(engine, batcher, Work(20, 0, ids, 1), short(1), short(2), short(9))
        answered = 0
        while not prompt.done():
            await asyncio.gather(*others)
            answered += 1
            others = [batcher.submit(short(session)) for session in (1, 2, 9)]
        await asyncio.gather(*others)
        assert prompt.result().rows.tolist() == [LOGITS(ids).tolist()]
        assert answered >= 3
        turns = "".join("p" if 20 in forward else "c" if 1 in forward else "l" for forward in sessions(engine))
        # From one chunk of the prompt to the next, either crowd has one forward at most.
        assert all(between in ("", "c", "l", "cl", "lc") for between in turns.split("p")[1:-1]), turns

    batching(test, caches)
