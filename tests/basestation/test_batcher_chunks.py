"""Long prompts go in chunks, so that nobody's verdict waits for them; lost caches too; every answer is that of a lone one."""

import asyncio

import numpy as np
import pytest

from fakes import contextual
from spilling import SpillingEngine
from uihlm_basestation.batcher import SHORT, Batcher
from uihlm_basestation.engines.engine import Work

V = 16
LOGITS = contextual(V, salt=9, window=40)
CHUNK = 24


def ids(count, salt=0):
    return [(7 * i + salt) % V for i in range(count)]


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


def batching(test, caches=100, **settings):
    """Run an async scenario with an engine and its batcher, and close the batcher."""

    async def scenario():
        engine = SpillingEngine(LOGITS, V, caches)
        batcher = Batcher(engine, chunk=CHUNK, **settings)
        try:
            await test(engine, batcher)
        finally:
            engine.gate.set()
            await batcher.close()

    run(scenario())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


async def behind_a_gate(engine, batcher, *work):
    """Submit work while the engine is busy with session 0, so that all of it waits together; return the futures."""
    engine.gate.clear()
    engine.entered.clear()
    blocker = batcher.submit(Work(0, 0, [1], 1))
    await until(engine.entered.is_set)
    waiting = [batcher.submit(part) for part in work]
    engine.forwards.clear()
    engine.gate.set()
    await blocker
    return waiting


def test_a_session_that_is_alone_is_never_cut():
    async def test(engine, batcher):
        await batcher.forward(Work(1, 0, ids(500), 1))
        assert engine.forwards == [{1: 500}]

    batching(test)


def test_no_forward_runs_more_than_a_chunk_of_prompts():
    async def test(engine, batcher):
        prompts = [Work(n, 0, ids(100, n), 1) for n in (1, 2, 3)]
        answers = await asyncio.gather(*await behind_a_gate(engine, batcher, *prompts))
        # Beside the chunk, the one row of a prompt that is through.
        assert max(sum(ran.values()) for ran in engine.forwards) <= CHUNK + 1
        for n, answer in zip((1, 2, 3), answers, strict=True):
            np.testing.assert_array_equal(answer.rows, [LOGITS(ids(100, n))])
            assert answer.positions == 100
            # Every chunk counts, and the last takes the row.
            assert answer.forwards == sum(n in ran for ran in engine.forwards)

    batching(test)


def test_a_verdict_waits_for_no_more_than_one_chunk():
    async def test(engine, batcher):
        await batcher.forward(Work(9, 0, ids(5), 1))
        (prompt,) = await behind_a_gate(engine, batcher, Work(1, 0, ids(400), 1))
        for turn in range(6):
            before = len(engine.forwards)
            await batcher.forward(Work(9, 5 + turn, [turn], 1))
            # Not in the forward under way, but in the next.
            assert any(9 in ran for ran in engine.forwards[before : before + 2])
        assert not prompt.done()
        assert (await prompt).positions == 400

    batching(test)


def test_long_requests_take_turns_and_none_is_forgotten():
    async def test(engine, batcher):
        waiting = await behind_a_gate(
            engine, batcher, Work(1, 0, ids(240), 1), Work(2, 0, ids(240), 1), Work(3, 0, ids(60), 1)
        )
        order = []
        for future, name in zip(waiting, "abc", strict=True):
            future.add_done_callback(lambda _, name=name: order.append(name))
        await asyncio.gather(*waiting)
        await asyncio.sleep(0)
        assert order[0] == "c", "the short prompt is not behind the long ones"
        turns = [next(iter(ran)) for ran in engine.forwards if len(ran) == 1]
        assert max(turns.count(1), turns.count(2)) - min(turns.count(1), turns.count(2)) <= 1

    batching(test)


def test_who_comes_later_has_no_debt_to_make_up_and_none_to_be_paid():
    async def test(engine, batcher):
        engine.pause_s = 0.003
        (old,) = await behind_a_gate(engine, batcher, Work(1, 0, ids(960), 1))
        await until(lambda: len(engine.forwards) >= 5)
        since = len(engine.forwards)
        new = batcher.submit(Work(2, 0, ids(960, 1), 1))
        await old
        # From then on they took turns: the newcomer did not keep the other out until it had run as much.
        turns = [sum(n in ran for ran in engine.forwards[since:]) for n in (1, 2)]
        assert abs(turns[0] - turns[1]) <= 2 < turns[0]
        assert not new.done()
        await new

    batching(test)


def test_more_sessions_than_caches_all_get_their_answers():
    async def test(engine, batcher):
        held = {n: ids(20 + 3 * n, n) for n in range(12)}
        await asyncio.gather(*(batcher.forward(Work(n, 0, own, 1)) for n, own in held.items()))
        for turn in range(4):
            parts = {n: Work(n, len(own), [turn], 1) for n, own in held.items()}
            answers = await asyncio.gather(*(batcher.forward(part) for part in parts.values()))
            for (n, own), answer in zip(held.items(), answers, strict=True):
                own.append(turn)
                np.testing.assert_array_equal(answer.rows, [LOGITS(own)])
                assert answer.positions >= 1, n
        assert engine.spilled > 0
        assert all(len(ran) <= 3 for ran in engine.forwards)

    batching(test, caches=3)


def test_a_lost_cache_is_made_anew_in_chunks_and_its_positions_are_counted():
    async def test(engine, batcher):
        await batcher.forward(Work(1, 0, ids(100), 1))
        for n in (2, 3):
            await batcher.forward(Work(n, 0, [n], 1))
        assert engine.cached_sessions == {2, 3}
        engine.forwards.clear()
        answer = await batcher.forward(Work(1, 100, [5, 6], 2))
        np.testing.assert_array_equal(answer.rows, [LOGITS([*ids(100), 5]), LOGITS([*ids(100), 5, 6])])
        assert max(ran[1] for ran in engine.forwards) <= CHUNK + SHORT
        assert answer.positions == sum(ran[1] for ran in engine.forwards) == 102

    batching(test, caches=2)


def test_one_cache_serves_them_all_one_after_another():
    async def test(engine, batcher):
        answers = await asyncio.gather(*(batcher.forward(Work(n, 0, ids(60, n), 1)) for n in range(5)))
        for n, answer in enumerate(answers):
            np.testing.assert_array_equal(answer.rows, [LOGITS(ids(60, n))])

    batching(test, caches=1)


@pytest.mark.parametrize("caches", [2, 3])
def test_where_not_all_fit_neither_prompts_nor_verdicts_are_kept_out(caches):
    async def test(engine, batcher):
        for n in range(4 * caches):
            await batcher.forward(Work(n, 0, [n], 1))
        going = True

        async def verdicts(n):
            count = 1
            while going:
                await batcher.forward(Work(n, count, [1], 1))
                count += 1
            return count

        busy = [asyncio.create_task(verdicts(n)) for n in range(4 * caches)]
        await batcher.forward(Work(50, 0, ids(200), 1))
        going = False
        assert min(await asyncio.gather(*busy)) > 1

    batching(test, caches)


def test_batches_can_be_kept_small():
    async def test(engine, batcher):
        waiting = await behind_a_gate(engine, batcher, *(Work(n, 0, ids(30, n), 1) for n in range(1, 6)))
        await asyncio.gather(*waiting)
        assert max(len(ran) for ran in engine.forwards) == 1

    batching(test, max_batch=1)


def test_a_tree_below_a_long_chat_turn_is_walked_as_if_it_had_come_alone():
    async def test(engine, batcher):
        turn = ids(90, 4)
        nodes, parents = [3, 4, 5], [89, 90, 90]
        tree = Work(1, 4, [*turn, *nodes], 4, [*range(-1, 89), *parents])
        await batcher.forward(Work(1, 0, ids(4), 1))
        (answer,) = await asyncio.gather(*await behind_a_gate(engine, batcher, tree))
        trunk = [*ids(4), *turn]
        for row, path in zip(answer.rows, ([], [3], [3, 4], [3, 5]), strict=True):
            np.testing.assert_array_equal(row, LOGITS([*trunk, *path]))
        assert answer.forwards > 1
        # The path is told in the numbers of the whole tree.
        path = [*range(90), 90, 92]
        after = await batcher.forward(Work(1, 96, [7], 1, path=path))
        np.testing.assert_array_equal(after.rows, [LOGITS([*trunk, 3, 5, 7])])

    batching(test)


def test_seconds_of_all_its_forwards_are_charged_and_waiting_is_told_apart():
    async def test(engine, batcher):
        waiting = await behind_a_gate(engine, batcher, Work(1, 0, ids(200), 1), Work(2, 0, ids(3), 1))
        long, short = await asyncio.gather(*waiting)
        assert long.forwards > 5 and short.forwards == 1
        assert long.forward_s > short.forward_s > 0.0
        assert long.queue_s >= 0.0 and short.queue_s >= 0.0

    batching(test)
