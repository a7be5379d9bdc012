"""The engine goes on with a request by itself only where the request is alone and through: `Batcher.submit(work, go_on)`."""

import asyncio
import time

import numpy as np
import pytest

from fakes import contextual
from spilling import SpillingEngine
from stations import GatedEngine
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Work
from uihlm_proto.errors import UihlmError

V = 8
LOGITS = contextual(V, salt=6, window=40)
CHUNK = 24


class Breaking(GatedEngine):
    """`fails` says which batches break, by the sessions in them."""

    def __init__(self, fails=()):
        super().__init__(LOGITS, V)
        self.fails = fails

    def forward(self, work):
        if [part.session for part in work] in self.fails:
            raise UihlmError("this batch broke")
        return super().forward(work)

    @property
    def ran(self):
        """Whose parts ran, and in batches of how many."""
        return [part.session for part in self.log], self.batches


class Steps:
    """Goes on for so many forwards, and remembers from which rows."""

    def __init__(self, session, ids, count):
        self.session, self.ids, self.left = session, list(ids), count
        self.rows = []

    def __call__(self, rows):
        self.rows.append(rows[-1])
        if not self.left:
            return None
        self.left -= 1
        self.ids.append(int(rows[-1].argmax()))
        return Work(self.session, len(self.ids) - 1, self.ids[-1:], 1)


def behind_a_gate(engine, asked, **settings):
    """Run requests that wait together while the engine is busy with session 0; return what they got, in their order."""

    async def run():
        batcher = Batcher(engine, **settings)
        engine.gate.clear()
        blocker = batcher.submit(Work(0, 0, [1], 1))
        while not engine.entered.is_set():
            await asyncio.sleep(0.002)
        waiting = [batcher.submit(*each) for each in asked]
        engine.gate.set()
        await blocker
        try:
            return await asyncio.gather(*waiting)
        finally:
            await batcher.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_alone_it_goes_on_and_what_it_ran_is_its_own():
    engine, steps = Breaking(), Steps(1, [3, 4], 5)
    (answer,) = behind_a_gate(engine, [(Work(1, 0, [3, 4], 1), steps)])
    assert engine.ran == ([0] + [1] * 6, [1] * 7)
    assert (answer.forwards, answer.positions) == (6, 7)
    np.testing.assert_array_equal(answer.rows, [LOGITS(steps.ids)])
    expected = [LOGITS(steps.ids[:n]) for n in range(2, 8)]
    np.testing.assert_array_equal(steps.rows, expected)


def test_in_company_nobody_goes_on():
    engine, steps = Breaking(), Steps(1, [3, 4], 5)
    first, second = behind_a_gate(engine, [(Work(1, 0, [3, 4], 1), steps), (Work(2, 0, [5], 1), None)])
    assert engine.ran == ([0, 1, 2], [1, 2]) and steps.rows == []
    assert first.forwards == second.forwards == 1


def test_while_one_of_a_broken_batch_waits_to_be_tried_again_nobody_goes_on():
    engine, steps = Breaking(fails=([1, 2],)), Steps(1, [3, 4], 5)
    first, second = behind_a_gate(engine, [(Work(1, 0, [3, 4], 1), steps), (Work(2, 0, [5], 1), None)])
    assert engine.ran == ([0, 1, 2], [1, 1, 1]) and steps.rows == []
    assert first.forwards == second.forwards == 1


@pytest.mark.parametrize("count", [0, 3])
def test_a_long_request_goes_on_once_it_is_through(count):
    """Its chunks' rows are nothing to go on from, and its forwards' seconds are none of waiting."""
    engine = SpillingEngine(LOGITS, V, 4)
    engine.pause_s = 0.01
    long, other = [n % V for n in range(90)], [n % V for n in range(60)]
    steps = Steps(1, long, count)
    started_s = time.perf_counter()
    answer, _ = behind_a_gate(engine, [(Work(1, 0, long, 1), steps), (Work(2, 0, other, 1), None)], chunk=CHUNK)
    took_s = time.perf_counter() - started_s
    np.testing.assert_array_equal(steps.rows[0], LOGITS(long))
    np.testing.assert_array_equal(answer.rows, [LOGITS(steps.ids)])
    assert answer.positions == 90 + count
    own = [ran for ran in engine.forwards if 1 in ran]
    assert answer.forwards == len(own) > 3
    assert 0.0 <= answer.queue_s <= took_s - 0.01 * len(own)
