"""How an answer ends: at a stop token, at a limit, dropped half-way, or with the base station gone."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, serving
from loop_reference import ASKING, KNOBS, POLICIES, PROMPT, Station, V, X, Y, agree, start, write
from stations import eventually
from uihlm_basestation.engines.engine import Work
from uihlm_device.conversation import Conversation
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.errors import InvalidRequestError, UihlmError, UnavailableError
from uihlm_proto.randomness import session_key


@pytest.mark.parametrize("policy", POLICIES)
def test_a_stop_token_ends_the_answer_and_counts(policy: str) -> None:
    stops = range(0, V, 8)
    ended = set()
    with serving(FakeEngine(Y, V, stops)) as at, Bench(at, FakeDrafter(X, V, stops)) as device:
        for index in range(12):
            records = device.run(policy, (1, index), index=index, max_tokens=100, settings=KNOBS)
            assert [record.token in stops for record in records] == [False] * (len(records) - 1) + [True]
            assert [record.stop for record in records] == [record.token in stops for record in records]
            ended.add(records[-1].origin)
    assert ended >= {"llm": {Origin.LLM}, "slm": {Origin.LOCAL}}.get(policy, {Origin.ACCEPTED, Origin.RESAMPLED})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("limit", [1, 5])
def test_the_length_limit_ends_the_answer(device: Bench, policy: str, limit: int) -> None:
    assert len(device.run(policy, PROMPT, max_tokens=limit, settings=KNOBS)) == limit


@pytest.mark.parametrize("policy", POLICIES)
def test_the_drafter_s_context_ends_the_answer(station: Station, policy: str) -> None:
    drafter = FakeDrafter(X, V)
    drafter.max_context = 12
    with Bench(station.address, drafter) as device:
        conversation = start()
        assert len(write(device, conversation, policy)) == 12 - len(PROMPT)
        with pytest.raises(InvalidRequestError, match="12 tokens, the drafter's context holds 12"):
            write(device, conversation, policy)
        conversation.end_session()


@pytest.mark.parametrize("policy", ["slm", "ui"])
def test_another_drafter_takes_up_the_conversation(station: Station, policy: str) -> None:
    conversation = start()
    records: list[TokenRecord] = []
    for _ in range(2):
        with Bench(station.address, FakeDrafter(X, V)) as device:
            records += write(device, conversation, policy, 8)
            conversation.end_session()
    assert len(records) == 16
    agree(device, conversation, records, policy, len(PROMPT))


def test_an_empty_conversation_is_refused(device: Bench) -> None:
    with pytest.raises(InvalidRequestError, match="has 0 tokens"):
        write(device, Conversation(session_key(0, 0)), "hlm")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_dropped_answer_leaves_the_conversation_right(station: Station, device: Bench, policy: str) -> None:
    conversation = start()
    answer = device.decoder(policy, 32, KNOBS).answer(conversation)
    first = [next(answer) for _ in range(6)]
    answer.close()
    assert conversation.session is None
    assert conversation.ids == [*PROMPT, *(record.token for record in first)]
    # The session is freed over there, verdicts under way or not.
    assert eventually(lambda: not station.engine.sessions)
    conversation.extend([9, 9])
    before = len(conversation.ids)
    second = write(device, conversation, policy)
    conversation.end_session()
    agree(device, conversation, first, policy, len(PROMPT))
    agree(device, conversation, second, policy, before)


class FailingEngine(FakeEngine):
    """An engine that breaks once, at a given forward."""

    def __init__(self, fails_at: int) -> None:
        super().__init__(Y, V)
        self._left = fails_at

    def fail_at(self, forward: int) -> None:
        self._left = forward

    def forward(self, work: Sequence[Work]) -> list[object]:
        self._left -= 1
        if self._left == 0:
            raise RuntimeError("out of memory")
        return super().forward(work)


@pytest.mark.parametrize("policy", ASKING)
@pytest.mark.parametrize("fails_at", [1, 2, 6])
def test_a_failed_round_commits_nothing_and_the_next_answer_goes_on(policy: str, fails_at: int) -> None:
    with serving(FailingEngine(fails_at)) as at, Bench(at, FakeDrafter(X, V)) as device:
        conversation = start()
        records: list[TokenRecord] = []
        with pytest.raises(UihlmError):
            for record in device.decoder(policy, 32, KNOBS).answer(conversation):
                records.append(record)
        assert conversation.session is None
        assert conversation.ids == [*PROMPT, *(record.token for record in records)]
        records += write(device, conversation, policy)
        conversation.end_session()
    agree(device, conversation, records, policy, len(PROMPT))


@pytest.mark.parametrize("policy", ["llm", "hlm"])
def test_a_failed_stream_leaves_nothing_running(policy: str) -> None:
    async def running() -> int:
        return len(asyncio.all_tasks())

    engine = FailingEngine(fails_at=0)
    with serving(engine) as at, Bench(at, FakeDrafter(X, V)) as device:
        device.run(policy, PROMPT)
        idle = device.connection.run(running())
        for _ in range(3):
            engine.fail_at(2)
            conversation = start()
            with pytest.raises(UihlmError):
                write(device, conversation, policy)
        deadline_s = time.monotonic() + 5.0
        while device.connection.run(running()) > idle and time.monotonic() < deadline_s:
            time.sleep(0.01)
        left = device.connection.run(running())
    # What was left dies with the loop, now and not while pytest reports.
    gc.collect()
    assert left == idle


def test_a_base_station_that_goes_away_is_said_so_and_another_takes_over() -> None:
    conversation, drafter = start(), FakeDrafter(X, V)
    records: list[TokenRecord] = []
    with serving(FakeEngine(Y, V)) as first:
        device = Bench(first, drafter, timeout_s=10.0)
        answer = device.decoder("ui", 32, KNOBS).answer(conversation)
        while len(records) < 5 or not records[-1].uploaded:
            records.append(next(answer))
    with pytest.raises(UnavailableError):
        for record in answer:
            records.append(record)
    device.close()
    with serving(FakeEngine(Y, V)) as second, Bench(second, drafter) as device:
        records += write(device, conversation, "ui")
        conversation.end_session()
    agree(device, conversation, records, "ui", len(PROMPT))


def test_llm_writes_until_the_base_stations_context_is_full() -> None:
    engine = FakeEngine(contextual(V, salt=1), V)
    engine.max_context = 12
    with serving(engine) as address, Bench(address, FakeDrafter(contextual(V, salt=2), V)) as bench:
        assert len(bench.run("llm", prompt=(1, 2, 3), max_tokens=32)) == 9
        assert len(bench.run("llm", prompt=(1, 2, 3), max_tokens=4)) == 4
