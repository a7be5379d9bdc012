"""Same seed, same tokens: before and after a reconnect, dropped and taken up again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, serving
from loop_reference import ASKING, KNOBS, POLICIES, PROMPT, V, X, Y
from same_tokens import UPLINKS, bench
from uihlm_device.conversation import Conversation
from uihlm_proto.addresses import Address
from uihlm_proto.randomness import session_key


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(FakeEngine(Y, V)) as served:
        yield served


TOTAL, TURN = 24, (5, 6, 7)


def start() -> Conversation:
    conversation = Conversation(session_key(3, 1))
    conversation.extend(list(PROMPT))
    return conversation


def uninterrupted(device: Bench, policy: str, turns: int = 1) -> Conversation:
    conversation = start()
    for turn in range(turns):
        if turn:
            conversation.extend(list(TURN))
        list(device.decoder(policy, TOTAL, KNOBS).answer(conversation))
    conversation.end_session()
    return conversation


@pytest.mark.parametrize("codec", UPLINKS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("after", [1, 7])
def test_an_answer_dropped_and_taken_up_again_is_the_same_text(
    address: Address, policy: str, codec: str, after: int
) -> None:
    with bench(address, codec) as device:
        whole = uninterrupted(device, policy)
        conversation = start()
        answer = device.decoder(policy, TOTAL, KNOBS).answer(conversation)
        for _ in range(after):
            next(answer)
        answer.close()
        assert conversation.session is None
        assert conversation.ids == whole.ids[: len(PROMPT) + after]
        list(device.decoder(policy, TOTAL - after, KNOBS).answer(conversation))
        conversation.end_session()
    assert conversation.ids == whole.ids


@pytest.mark.parametrize("policy", POLICIES)
def test_an_answer_cut_by_its_limit_goes_on_as_if_it_had_not_been(address: Address, policy: str) -> None:
    with bench(address) as device:
        whole = uninterrupted(device, policy)
        conversation = start()
        for _ in range(3):
            list(device.decoder(policy, TOTAL // 3, KNOBS).answer(conversation))
        conversation.end_session()
    assert conversation.ids == whole.ids


@pytest.mark.parametrize("codec", UPLINKS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_stream_opened_again_between_two_turns_changes_nothing(address: Address, policy: str, codec: str) -> None:
    with bench(address, codec) as device:
        kept = uninterrupted(device, policy, turns=3)
        reopened = start()
        for turn in range(3):
            if turn:
                reopened.extend(list(TURN))
            list(device.decoder(policy, TOTAL, KNOBS).answer(reopened))
            reopened.end_session()
    assert reopened.ids == kept.ids


@pytest.mark.parametrize("policy", ASKING)
def test_both_ends_hold_the_same_ids_after_a_reconnect(policy: str) -> None:
    engine = FakeEngine(Y, V)
    with serving(engine) as at, bench(at) as device:
        conversation = start()
        answer = device.decoder(policy, TOTAL, KNOBS).answer(conversation)
        for _ in range(9):
            next(answer)
        answer.close()
        list(device.decoder(policy, TOTAL, KNOBS).answer(conversation))
        held = engine.sessions[max(engine.sessions)]
        # All but the last id told: nothing has asked what follows it.
        assert held == conversation.ids[: conversation.told - 1]
        assert conversation.told > len(PROMPT) + 9
        conversation.end_session()


@pytest.mark.parametrize("policy", ["hlm", "ui", "random"])
def test_another_base_station_takes_over_in_mid_answer(policy: str) -> None:
    conversation = start()
    drafter = FakeDrafter(X, V)
    with serving(FakeEngine(Y, V)) as first, Bench(first, drafter) as device:
        whole = uninterrupted(device, policy)
        answer = device.decoder(policy, TOTAL, KNOBS).answer(conversation)
        for _ in range(10):
            next(answer)
        answer.close()
    with serving(FakeEngine(Y, V)) as second, Bench(second, drafter) as device:
        list(device.decoder(policy, TOTAL - 10, KNOBS).answer(conversation))
        conversation.end_session()
    assert conversation.ids == whole.ids
