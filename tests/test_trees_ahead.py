"""Trees whose device drafts on while a verdict is in flight: the same tokens, sooner, and a cache that is right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.conversation import Conversation
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.settings import LinkSettings

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)
FAR = LinkSettings(radio=None, rtt_s=0.15)


@pytest.fixture
def address() -> Iterator[object]:
    with serving(FakeEngine(Y, V, [STOP])) as address:
        yield address


def bench(address: object, sampling: Sampling | None = None, logits=X, clock=None, rtt_s: float = 0.15) -> Bench:
    link = LinkSettings(radio=None, rtt_s=rtt_s)
    return Bench(address, FakeDrafter(logits, V, [STOP]), "coupled", sampling or Sampling(), link, clock)


def tokens(records: list[TokenRecord]) -> list[int]:
    return [record.token for record in records]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.6), Sampling(0.0)])
@pytest.mark.parametrize(("size", "window"), [(1, 2), (1, 6), (4, 2), (4, 3), (4, 20), (16, 2), (16, 5), (64, 2)])
def test_drafting_on_writes_what_the_llm_alone_writes(
    address: object, size: int, window: int, sampling: Sampling
) -> None:
    with bench(address, sampling) as device:
        for index in range(4):
            alone = device.run("llm", PROMPT, index=index)
            written = device.run("hlm", PROMPT, index=index, tree=size, in_flight=window)
            assert tokens(written) == tokens(alone)
            assert [r.stop for r in written] == [r.stop for r in alone]


def test_what_was_drafted_on_is_what_the_drafter_would_have_said(address: object) -> None:
    """With the LLM as drafter its draw is always the best candidate, unless a node's row is that of another branch."""
    with bench(address, logits=Y) as twin:
        for index in range(6):
            records = twin.run("hlm", PROMPT, index=index, tree=8, in_flight=2)
            assert Origin.RESAMPLED not in {record.origin for record in records}


def test_next_tree_starts_from_what_was_drafted_on(address: object) -> None:
    """A round begins with a forward of the last draw; where that draw had run already, it does not."""
    with bench(address, rtt_s=0.5) as device:
        rounds = sum(device.run("hlm", PROMPT, index=i, tree=16, in_flight=2)[-1].round for i in range(6))
        begun = len(device.drafter.log)
        device.drafter.log.clear()
        waiting = sum(device.run("hlm", PROMPT, index=i, tree=16)[-1].round for i in range(6))
    assert len(device.drafter.log) == waiting
    assert begun < 0.7 * rounds


def test_clock_shows_the_overlap(address: object) -> None:
    """Far more nodes run, and yet the answers are there sooner."""
    elapsed_s, busy_s = [], []
    for window in (1, 2):
        with bench(address, rtt_s=0.5) as device:
            records = [device.run("hlm", PROMPT, index=index, tree=16, in_flight=window) for index in range(6)]
            elapsed_s.append(device.clock.now())
            busy_s.append(sum(record.draft_s for answer in records for record in answer))
    assert elapsed_s[1] < elapsed_s[0] and busy_s[1] > 2.0 * busy_s[0]


def test_drafting_on_ends_with_the_verdict_under_real_time(address: object) -> None:
    with bench(address, clock=EnforcedClock(), rtt_s=0.03) as device:
        alone = device.run("llm", PROMPT, max_tokens=16)
        assert tokens(device.run("hlm", PROMPT, max_tokens=16, tree=8, in_flight=2)) == tokens(alone)


@pytest.mark.parametrize("window", [2, 5])
@pytest.mark.parametrize("taken", range(1, 7))
def test_dropped_generator_leaves_cache_and_conversation_right(address: object, taken: int, window: int) -> None:
    with bench(address) as device:
        conversation = Conversation(session_key(0, taken))
        conversation.extend(list(PROMPT))
        answer = device.decoder("hlm", 32, tree=16, in_flight=window).answer(conversation)
        read = tokens(list(itertools.islice(answer, taken)))
        answer.close()
        assert conversation.ids == [*PROMPT, *read]
        assert device.drafter.ids[: conversation.drafted] == conversation.ids[: conversation.drafted]
        conversation.extend([9, 9])
        rest = tokens(list(device.decoder("hlm", 12, tree=16, in_flight=2).answer(conversation)))
        conversation.end_session()
    with bench(address) as fresh:
        again = Conversation(session_key(0, taken))
        again.extend([*PROMPT, *read, 9, 9])
        assert tokens(list(fresh.decoder("llm", 12).answer(again))) == rest
        again.end_session()
