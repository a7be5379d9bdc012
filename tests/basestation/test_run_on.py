"""`run_on`: the LLM runs the token that a verdict ends with before the next upload asks for what follows it."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import numpy as np
import pytest

from fake_counters import FakeCounters
from fakes import FakeEngine, contextual
from sessions import PREFIX, ask, opened
from uihlm_basestation import session as session_module
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.parts import Forwarded
from uihlm_proto.errors import UihlmError
from uihlm_proto.v1 import verification_pb2 as pb

V, STOP = 12, 7
NOW, COUNTED, NO = pb.RUN_ON_NOW, pb.RUN_ON_COUNTED, pb.RUN_ON_UNSPECIFIED


class CostlyEngine(FakeEngine):
    """Spends 10 J a forward, and fails from one of them on."""

    def __init__(self, stop_ids=(), fails_from=None, counters=None):
        super().__init__(contextual(V, salt=1), V, stop_ids)
        self.fails_from = fails_from
        self.counters = counters
        self.tried = 0

    def forward(self, work):
        self.tried += 1
        if self.counters is not None:
            self.counters.spend(10.0)
        if self.fails_from is not None and self.tried >= self.fails_from:
            raise UihlmError("the engine broke")
        return super().forward(work)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def settled(engine, forwards) -> None:
    """So many forwards were made, and no other follows."""
    await until(lambda: engine.tried == forwards)
    await asyncio.sleep(0.02)
    assert engine.tried == forwards


def upload(position, tokens, when, epoch=0, **fields) -> pb.Upload:
    drafts = [pb.Draft(payload=bytes([token])) for token in tokens]
    return pb.Upload(first_position=position, drafts=drafts, epoch=epoch, run_on=when, **fields)


class Device:
    """Drafts one token at a time, always the same one, and knows what both ends agree on."""

    def __init__(self, session, token=0):
        self.session, self.token = session, token
        self.ids, self.epoch = list(PREFIX), 0

    async def round(self, when, unsent=(), **fields):
        draft = upload(len(self.ids) + len(unsent), [self.token], when, self.epoch, skipped_ids=unsent, **fields)
        (verdict,) = await ask(self.session, draft)
        self.ids += [*unsent, self.token if verdict.accepted else verdict.token_id]
        self.epoch += not verdict.accepted
        return verdict


def scene(coroutine, **engine_settings):
    """Run a scene with an engine, its batcher and a session."""

    async def played():
        counters = engine_settings.get("counters")
        engine = CostlyEngine(**engine_settings)
        batcher = Batcher(engine, counters=counters)
        session = await opened(engine, batcher)
        try:
            await coroutine(engine, batcher, session)
        finally:
            await batcher.close()

    asyncio.run(played())


def test_the_forward_is_made_before_it_is_asked_for_and_made_once():
    async def played(engine, batcher, session):
        device = Device(session)
        first = await device.round(NOW)
        assert (first.cost.forwards, first.cost.ran_on) == (0, False)
        for made in range(2, 8):
            await settled(engine, made)
            last = engine.log[-1]
            assert (last.keep_len, last.new_ids, last.rows) == (len(device.ids) - 1, tuple(device.ids[-1:]), 1)
            verdict = await device.round(NOW)
            assert (verdict.cost.forwards, verdict.cost.positions, verdict.cost.ran_on) == (1, 1, True)
            assert verdict.cost.forward_s > 0.0
        assert (await device.round(NO)).cost.ran_on
        await settled(engine, 8)

    scene(played)


def test_the_engine_goes_on_before_the_figures_are_made(monkeypatch):
    """They cost a pass over V, and no token waits for them."""
    told = []
    verify, submit = session_module.verify_chain, Batcher.submit

    def noted(*arguments):
        verdict = verify(*arguments)
        seen = [
            replace(judgement, figures=lambda judgement=judgement: told.append("figures") or judgement.figures())
            for judgement in verdict.judgements
        ]
        return replace(verdict, judgements=tuple(seen))

    monkeypatch.setattr(session_module, "verify_chain", noted)
    monkeypatch.setattr(Batcher, "submit", lambda *asked: told.append("forward") or submit(*asked))

    async def played(engine, batcher, session):
        device = Device(session)
        for _ in range(3):
            await device.round(NOW)

    scene(played)
    assert told == ["forward", *["forward", "figures"] * 3], "the first is the prefill"


@pytest.mark.parametrize("when", [NO, COUNTED])
def test_no_forward_is_made_before_it_is_asked_for_unless_it_may(when):
    async def played(engine, batcher, session):
        device = Device(session)
        await device.round(when)
        for made in range(1, 6):
            await settled(engine, made)
            verdict = await device.round(when)
            assert (verdict.cost.forwards, verdict.cost.ran_on) == (1, when == COUNTED)

    scene(played)


def test_the_tokens_are_those_of_a_base_station_that_waits():
    written = {}

    async def played(engine, batcher, session):
        for when in (NO, NOW, COUNTED):
            device = Device(await opened(engine, batcher, 10 + when))
            verdicts = [await device.round(when) for _ in range(30)]
            written[when] = (device.ids, [verdict.y_d[0] for verdict in verdicts])
            assert 0 < device.epoch < 30

    scene(played)
    assert written[NO] == written[NOW] == written[COUNTED]


@pytest.mark.parametrize("when", [NOW, COUNTED])
@pytest.mark.parametrize(
    "brings", ["skipped ids", "a longer chain", "a tree", "generate", "skipped ids to generate after"]
)
def test_an_upload_that_needs_more_is_served_with_a_second_forward_and_pays_for_both(when, brings):
    """A device may change its mind: nothing of what was judged depends on what ran before it was asked for."""
    found = []

    async def asked(session, device):
        position = len(device.ids)
        fields = {
            "skipped ids": {"first_position": position + 2, "skipped_ids": [4, 5], "drafts": [pb.Draft(payload=b"\1")]},
            "a longer chain": {"first_position": position, "drafts": [pb.Draft(payload=bytes([t])) for t in (1, 2, 4)]},
            "a tree": {
                "first_position": position,
                "drafts": [pb.Draft(payload=bytes([t])) for t in range(V - 1)],
                "parents": [-1] * (V - 1),
            },
            "generate": {"first_position": position, "generate": 3},
            "skipped ids to generate after": {"first_position": position + 1, "skipped_ids": [4], "generate": 3},
        }[brings]
        return await ask(session, pb.Upload(epoch=device.epoch, **fields))

    async def played(engine, batcher, session):
        for mode in (NO, when):
            own = await opened(engine, batcher, 20 + mode)
            device = Device(own)
            await device.round(NO)
            before = len(engine.log)
            costs = [(await device.round(mode)).cost]
            verdicts = await asked(own, device)
            found.append([(list(v.path), v.accepted, v.token_id, list(v.y_d)) for v in verdicts])
            costs += [verdict.cost for verdict in verdicts]
            made = engine.log[before:]
            assert sum(cost.forwards for cost in costs) == len(made)
            assert sum(cost.positions for cost in costs) == sum(len(work.new_ids) for work in made)
            # All that `generate` needs first is what could run before.
            assert costs[1].ran_on == (brings == "generate" and mode != NO)
            assert not any(cost.ran_on for cost in costs[2:])

    scene(played)
    assert found[0] == found[1]


def test_nothing_runs_behind_the_end_of_an_answer_or_of_the_context():
    async def ends(engine, batcher, session):
        device = Device(session)
        while device.ids[-1] != STOP:
            await device.round(NOW)
            made = engine.tried
        await settled(engine, made)

    scene(ends, stop_ids=[STOP])

    async def full(engine, batcher, session):
        engine.max_context = 12
        device = Device(session)
        verdicts = []
        while len(device.ids) < engine.max_context:
            verdicts.append(await device.round(NOW))
        assert all(verdict.cost.ran_on for verdict in verdicts[1:])
        await settled(engine, engine.max_context - len(PREFIX))

    scene(full)


def test_joules_of_a_forward_that_began_before_are_told_once():
    counters = FakeCounters()

    async def played(engine, batcher, session):
        device = Device(session)
        verdicts = [await device.round(NOW) for _ in range(4)]
        told = [verdict.cost.energy_j for verdict in verdicts if verdict.cost.forwards]
        assert told == [10.0] * 3
        # With two ids more it takes two forwards.
        assert (await device.round(NO, unsent=[4, 5])).cost.energy_j == 20.0

    scene(played, counters=counters)


def test_a_failure_comes_with_the_upload_that_needed_the_row_and_later_ones_try_anew():
    async def played(engine, batcher, session):
        device = Device(session)
        await device.round(NOW)
        await settled(engine, 2)
        with pytest.raises(UihlmError, match="the engine broke"):
            await device.round(NO)
        engine.fails_from = None
        verdict = await device.round(NO)
        assert verdict.cost.forwards == 1

    scene(played, fails_from=2)


@pytest.mark.parametrize("fails_from", [None, 2])
def test_whoever_leaves_leaves_nothing_to_be_logged(fails_from):
    complaints = []

    async def played(engine, batcher, session):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        device = Device(session)
        await device.round(NOW)
        batcher.close_session(session.number)
        await asyncio.sleep(0.02)

    scene(played, fails_from=fails_from)
    gc.collect()
    assert not complaints


def test_an_upload_of_another_epoch_takes_nothing_from_the_next_one():
    async def played(engine, batcher, session):
        device = Device(session)
        while device.epoch == 0:
            await device.round(NOW)
        await until(lambda: engine.log[-1].keep_len == len(device.ids) - 1)
        made = engine.tried
        (stale,) = await ask(session, upload(0, [1], NOW, epoch=0))
        assert stale.stale and stale.cost == pb.Cost()
        verdict = await device.round(NO)
        assert verdict.cost.ran_on
        await settled(engine, made)

    scene(played)


def test_the_sum_of_two_forwards():
    one, two = (Forwarded(np.full((1, V), i), 1.0 * i, 10.0 * i, i, 1, 100.0 * i) for i in (1, 2))
    both = one.plus(two)
    assert (both.forward_s, both.queue_s, both.positions, both.forwards, both.energy_j) == (3.0, 30.0, 3, 2, 300.0)
    assert (both.rows == 2).all()
    assert one.plus(replace(two, energy_j=None)).energy_j is None is replace(one, energy_j=None).plus(two).energy_j


BAD = {
    "no such word": (pb.Upload(drafts=[pb.Draft(payload=b"\1")], run_on=3), "run_on is 3: this base station knows"),
    "a tree": (pb.Upload(drafts=[pb.Draft(payload=b"\1")], parents=[-1], run_on=NOW), "goes with a chain of drafts"),
    "generate": (pb.Upload(generate=2, run_on=COUNTED), "goes with a chain of drafts"),
    "more of a tree": (
        pb.Upload(drafts=[pb.Draft(payload=b"\1")], parents=[-1], continues=2, run_on=NOW),
        "continues a tree holds drafts and their parents, and nothing else",
    ),
    "an audit alone": (pb.Upload(skipped_ids=[1], audit=b"\1", run_on=NOW), "goes with a chain of drafts"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_run_on_is_refused_and_the_session_stays(bad):
    request, sentence = BAD[bad]

    async def played(engine, batcher, session):
        request.first_position = len(PREFIX) + len(request.skipped_ids)
        with pytest.raises(UihlmError, match=sentence):
            await ask(session, request)
        assert (await Device(session).round(NOW)).y_d

    scene(played)
