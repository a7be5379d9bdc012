"""`generate` with several tokens a verdict: the same tokens, told of in groups; the engine goes on by itself meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from fake_counters import FakeCounters
from fakes import FakeEngine, contextual
from sessions import KEY, PREFIX, ask, opened
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.verification import draw_alone
from uihlm_proto.errors import InvalidRequestError, UihlmError
from uihlm_proto.randomness import Draws
from uihlm_proto.sampling import Row, Sampling
from uihlm_proto.v1 import verification_pb2 as pb

V = 12
LOGITS = contextual(V, salt=1)


class Steps(FakeEngine):
    """Lets a test look on: `at[n]` is called in the engine's thread, in the middle of forward n (the prefill is 1)."""

    def __init__(self, **more):
        super().__init__(LOGITS, V, **more)
        self.forwards = 0
        self.at = {}

    def forward(self, work):
        self.forwards += 1
        if self.forwards in self.at:
            self.at[self.forwards]()
        return super().forward(work)


def scene(played, engine=None, **settings):
    engine = engine or Steps()

    async def run():
        batcher = Batcher(engine, **settings)
        try:
            return await played(engine, batcher)
        finally:
            await batcher.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


def groups(verdicts):
    return [[*verdict.written_ids, verdict.token_id] for verdict in verdicts]


def tokens(verdicts):
    return [token for group in groups(verdicts) for token in group]


def written(generate, interval=0, engine=None, skipped=()):
    start = len(PREFIX) + len(skipped)
    upload = pb.Upload(first_position=start, skipped_ids=skipped, generate=generate, stream_interval=interval)

    async def played(engine, batcher):
        return await ask(await opened(engine, batcher), upload)

    return scene(played, engine)


@pytest.mark.parametrize("interval", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("generate", [1, 2, 7, 13])
def test_the_first_token_comes_alone_and_the_others_in_groups_of_the_interval(interval, generate):
    told = written(generate, interval)
    assert tokens(told) == [verdict.token_id for verdict in written(generate)]
    *before, last = [len(group) for group in groups(told)]
    assert before in ([], [1, *[interval] * (len(told) - 2)]) and last <= interval
    assert [verdict.last for verdict in told] == [False] * (len(told) - 1) + [True]
    # The bill is that of all its forwards, of which the prefill's row saved the first.
    ran = [0, *(len(group) for group in groups(told)[1:])]
    assert [verdict.cost.forwards for verdict in told] == [verdict.cost.positions for verdict in told] == ran


@pytest.mark.parametrize("interval", [1, 4])
def test_tokens_are_the_draws_of_their_positions(interval):
    ids = list(PREFIX)
    for token in tokens(written(9, interval)):
        assert token == draw_alone(Row(LOGITS(ids), Sampling(1.0)), Draws(KEY), len(ids))
        ids.append(token)


def test_the_engine_goes_on_by_itself_and_runs_nothing_in_vain(monkeypatch):
    engine, submitted = Steps(), []
    submit = Batcher.submit
    monkeypatch.setattr(Batcher, "submit", lambda *asked: submitted.append(asked) or submit(*asked))
    written(9, 4, engine)
    assert len(submitted) == 3, "the prefill, and two groups of four"
    assert engine.forwards == 9, "a prefill, and a forward for every token but the last"
    assert len(engine.threads) == 1


def test_a_stop_id_ends_its_group():
    alone = tokens(written(12))
    stop = alone[6]
    first = alone.index(stop)
    engine = Steps(stop_ids=[stop])
    told = written(12, 5, engine)
    assert tokens(told) == alone[: first + 1] and told[-1].last
    assert engine.forwards == first + 1, "nothing is run after the last token"


def test_a_full_context_ends_it_too():
    engine = Steps()
    engine.max_context = len(PREFIX) + 6
    told = written(60, 4, engine)
    assert len(tokens(told)) == 6 and told[-1].last


def test_what_was_not_run_before_is_run_with_the_first_token():
    told = written(6, 3, skipped=[4, 5])
    assert [len(group) for group in groups(told)] == [1, 3, 2]
    assert [verdict.cost.forwards for verdict in told] == [1, 3, 2]
    assert [verdict.cost.positions for verdict in told] == [2, 3, 2]


def test_whoever_comes_meanwhile_is_next():
    """The engine goes on only while nobody waits for it; who was interrupted goes on in company, with the same tokens."""

    async def played(engine, batcher):
        loop, asked = asyncio.get_running_loop(), []
        session = await opened(engine, batcher)
        other = Work(2, 0, [7, 8], 1)

        def come():
            waits = threading.Event()
            loop.call_soon_threadsafe(lambda: (asked.append(batcher.submit(other)), waits.set()))
            assert waits.wait(10)

        engine.at[4] = come
        upload = pb.Upload(first_position=len(PREFIX), generate=16, stream_interval=15)
        told = await ask(session, upload)
        await asked[0]
        return engine.log, told

    log, told = scene(played)
    assert [part.session for part in log[:6]] == [1, 1, 1, 1, 2, 1]
    assert [len(group) for group in groups(told)] == [1, 15]
    assert tokens(told) == tokens(written(16))
    assert told[1].cost.forwards == told[1].cost.positions == 15, "before the other one came, and after"


def test_who_leaves_is_written_for_no_longer():
    async def played(engine, batcher):
        loop = asyncio.get_running_loop()
        session = await opened(engine, batcher)
        gone = threading.Event()
        engine.at[4] = lambda: (
            loop.call_soon_threadsafe(lambda: (batcher.close_session(1), gone.set())),
            gone.wait(10),
        )
        verdicts = session.upload(pb.Upload(first_position=len(PREFIX), generate=60, stream_interval=59))
        await anext(verdicts)
        with pytest.raises(asyncio.CancelledError):
            await anext(verdicts)
        await batcher.close()
        assert engine.forwards == 4
        assert engine.sessions == {}

    scene(played)


def test_a_failure_in_the_middle_is_the_rounds():
    def broken():
        raise UihlmError("the engine broke")

    async def played(engine, batcher):
        engine.at[4] = broken
        session = await opened(engine, batcher)
        verdicts = session.upload(pb.Upload(first_position=len(PREFIX), generate=9, stream_interval=8))
        await anext(verdicts)
        with pytest.raises(UihlmError, match="the engine broke"):
            await anext(verdicts)
        # Others are served.
        assert (await batcher.forward(Work(2, 0, [1], 1))).forwards == 1

    scene(played)


def test_seconds_and_joules_are_those_of_all_its_forwards():
    class Slow(Steps):
        def forward(self, work):
            time.sleep(0.1)
            return super().forward(work)

    async def played(engine, batcher):
        session = await opened(engine, batcher)
        return await ask(session, pb.Upload(first_position=len(PREFIX), generate=6, stream_interval=5))

    first, rest = scene(played, Slow(), counters=FakeCounters(step_j=5.0))
    assert first.cost.forward_s == 0.0 and 0.5 <= rest.cost.forward_s < 5.0
    # Its own forwards are none of its waiting, however busy the machine is.
    assert rest.cost.queue_s < 0.35
    assert rest.cost.energy_j == 5.0, "one window for the group"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"generate": 5, "stream_interval": 65}, "64 tokens at most"),
        ({"generate": 5, "stream_interval": 2**32 - 1}, "64 tokens at most"),
        ({"drafts": [pb.Draft(payload=b"\x01")], "stream_interval": 2}, "goes with generate"),
        (
            {"drafts": [pb.Draft(payload=b"\x01")], "parents": [-1], "continues": 2, "stream_interval": 2},
            "drafts and their parents, and nothing else",
        ),
    ],
)
def test_an_interval_that_is_none_is_refused(fields, why):
    async def played(engine, batcher):
        session = await opened(engine, batcher)
        with pytest.raises(InvalidRequestError, match=why):
            await ask(session, pb.Upload(first_position=len(PREFIX), **fields))
        # Nothing is lost by it.
        assert len(await ask(session, pb.Upload(first_position=len(PREFIX), generate=1))) == 1

    scene(played)
