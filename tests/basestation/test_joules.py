"""A base station that measures: each verdict tells its session's share of what the counters read, and no other number."""

import asyncio

import grpc
import pytest

from fake_counters import FakeCounters
from fakes import FakeEngine, contextual
from stations import GatedEngine, RawClient, opening, standing, upload
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Work

V = 8
LOGITS = contextual(V, salt=4)
# Behind a prefill the first draft needs no forward; behind skipped tokens it does.
SKIPPED = {"skipped_ids": [1, 2], "first_position": 5}


class Costly(FakeEngine):
    """Every forward spends 10 J; what is spent between two is nobody's."""

    def __init__(self, counters):
        super().__init__(LOGITS, V)
        self.counters = counters

    def forward(self, work):
        self.counters.spend(10.0)
        return super().forward(work)


def test_a_verdict_tells_the_joules_of_its_forward_and_ready_those_of_the_prefill():
    counters = FakeCounters()
    engine = Costly(counters)
    with standing(engine, counters=counters) as station, RawClient(station.address) as client:
        stream = client.stream()
        ready = stream.ask(opening(engine)).ready
        counters.spend(1000.0)
        verdict = stream.ask(upload(engine, **SKIPPED)).verdict
        assert (ready.cost.forwards, ready.cost.energy_j) == (1, 10.0)
        assert (verdict.cost.forwards, verdict.cost.energy_j) == (1, 10.0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_counters_that_fail_cost_no_answer(when, caplog):
    class Failing(FakeCounters):
        begun = 0

        def begin(self):
            self.begun += 1
            if self.begun == 2 and when == "before":
                raise OSError("no such counter")
            end = super().begin()

            def ended():
                if self.begun == 2:
                    raise OSError("no such counter")
                return end()

            return ended

    counters = Failing()
    engine = Costly(counters)
    with standing(engine, counters=counters) as station, RawClient(station.address) as client:
        stream = client.stream()
        assert stream.ask(opening(engine)).ready.cost.energy_j == 10.0
        verdict = stream.ask(upload(engine, **SKIPPED)).verdict
        assert verdict.cost.forwards == 1 and not verdict.cost.HasField("energy_j")
        other = client.stream()
        assert not other.ask(opening(engine)).ready.cost.HasField("energy_j")
    assert counters.begun == 2 and "verdicts tell no joules from now on" in caplog.text


def test_a_window_is_ended_where_the_forward_fails():
    class Failing(Costly):
        def forward(self, work):
            super().forward(work)
            raise RuntimeError("out of memory")

    counters = FakeCounters()
    engine = Failing(counters)
    with (
        standing(engine, counters=counters) as station,
        RawClient(station.address) as client,
        pytest.raises(grpc.RpcError),
    ):
        client.stream().ask(opening(engine))
    assert counters.windows == 1


def test_without_counters_nothing_is_told():
    engine = FakeEngine(LOGITS, V)
    with standing(engine) as station, RawClient(station.address) as client:
        stream = client.stream()
        for cost in (stream.ask(opening(engine)).ready.cost, stream.ask(upload(engine, **SKIPPED)).verdict.cost):
            assert cost.forwards == 1
            assert not cost.HasField("energy_j")


def batched(works, step_j=12.0):
    """Run works in one forward behind another, and return what each got."""

    async def scenario():
        engine = GatedEngine(LOGITS, V)
        batcher = Batcher(engine, counters=FakeCounters(step_j))
        try:
            engine.gate.clear()
            first = asyncio.create_task(batcher.forward(Work(0, 0, [1], 1)))
            while not engine.entered.is_set():
                await asyncio.sleep(0.002)
            tasks = [asyncio.create_task(batcher.forward(work)) for work in works]
            while batcher.waiting < len(works):
                await asyncio.sleep(0.002)
            engine.gate.set()
            assert (await first).energy_j == step_j
            found = await asyncio.gather(*tasks)
            assert engine.batches == [1, len(works)]
            return found
        finally:
            engine.gate.set()
            await batcher.close()

    return asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_shared_forward_is_shared_by_positions_as_its_seconds_are():
    found = batched([Work(1, 0, [1, 2, 3], 1), Work(2, 0, [1], 1), Work(3, 0, [2, 3], 1)])
    assert [one.energy_j for one in found] == pytest.approx([6.0, 2.0, 4.0])
    seconds = [one.forward_s for one in found]
    assert [one.energy_j / 12.0 for one in found] == pytest.approx([s / sum(seconds) for s in seconds])


def test_a_request_that_was_cut_adds_its_forwards_up():
    async def scenario():
        engine = FakeEngine(LOGITS, V)
        batcher = Batcher(engine, chunk=16, counters=FakeCounters(5.0))
        try:
            long = [n % V for n in range(64)]
            return await asyncio.gather(
                batcher.forward(Work(1, 0, long, 1)),
                batcher.forward(Work(2, 0, long, 1)),
                batcher.forward(Work(3, 0, [1], 1)),
            )
        finally:
            await batcher.close()

    found = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert max(one.forwards for one in found) > 1
    # However forwards were cut, all their joules are told, once.
    assert sum(one.energy_j for one in found) % 5.0 == pytest.approx(0.0, abs=1e-9)
    assert sum(one.energy_j for one in found) >= 5.0 * max(one.forwards for one in found)
