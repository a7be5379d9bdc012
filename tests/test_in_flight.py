"""Blocks of drafts, and drafts that do not wait: the tokens are those of a loop that waits, and nothing is paid twice.

A block may end with a draft that the drafter itself gives little chance: what would follow it would fall with it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import AUTO, DecodeSettings
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)
KNOBS = PolicySettings(theta_u=0.6, k=3, theta_c=0.5, rate=0.5)
LINK = LinkSettings(radio=None, rtt_s=0.2)
TIMING = TimingProfile(draft_s=0.01, forward_s=0.02)


@pytest.fixture
def address() -> Iterator[object]:
    with serving(FakeEngine(Y, V, [STOP])) as address:
        yield address


def bench(address: object, codec: str = "dense32", **settings: object) -> Bench:
    return Bench(address, FakeDrafter(X, V, [STOP]), codec, Sampling(), LINK, timing=TIMING, **settings)


def tokens(records: list) -> list[int]:
    return [record.token for record in records]


@pytest.mark.parametrize("codec", ["dense32", "dense16", "coupled", "lattice:k=16,l=128"])
@pytest.mark.parametrize("length", [1, 2, 4, 7])
def test_drafts_in_flight_write_what_the_waiting_loop_writes(address: object, codec: str, length: int) -> None:
    origins = set()
    with bench(address, codec) as device:
        for index, window in itertools.product(range(3), (2, 5)):
            waiting = device.run("hlm", PROMPT, index=index, draft_length=length)
            flying = device.run("hlm", PROMPT, index=index, draft_length=length, in_flight=window)
            assert tokens(flying) == tokens(waiting)
            assert [r.origin for r in flying] == [r.origin for r in waiting]
            origins |= {record.origin for record in flying}
    assert origins == {Origin.ACCEPTED, Origin.RESAMPLED} | ({Origin.BONUS} if length > 1 else set())


@pytest.mark.parametrize("policy", ["u", "i", "ui", "confidence", "random", "u-random"])
def test_skipping_policies_in_flight_write_what_the_waiting_loop_writes(address: object, policy: str) -> None:
    seen = set()
    with bench(address) as device:
        for index, window in itertools.product(range(4), (3,)):
            waiting = device.run(policy, PROMPT, index=index, settings=KNOBS)
            flying = device.run(policy, PROMPT, index=index, settings=KNOBS, in_flight=window)
            assert tokens(flying) == tokens(waiting)
            for name in ("origin", "uploaded", "u", "importance", "y_d", "tv", "x_d"):
                assert [getattr(r, name) for r in flying] == [getattr(r, name) for r in waiting]
            seen |= {record.origin for record in flying}
    assert seen == {Origin.LOCAL, Origin.ACCEPTED, Origin.RESAMPLED}


def test_blocks_do_not_touch_a_policy_that_skips(address: object) -> None:
    with bench(address) as device:
        runs = [device.run("u", PROMPT, settings=KNOBS, draft_length=length) for length in (1, 5)]
        plain, blocks = ([replace(record, queue_s=0.0) for record in run] for run in runs)
        assert plain == blocks


@pytest.mark.parametrize(("length", "window"), [(1, 1), (1, 3), (4, 1), (4, 2), (16, 3)])
def test_coupled_writes_what_the_llm_alone_writes_whatever_the_blocks(
    address: object, length: int, window: int
) -> None:
    with bench(address, "coupled") as device:
        for index in range(5):
            alone = tokens(device.run("llm", PROMPT, index=index))
            assert tokens(device.run("hlm", PROMPT, index=index, draft_length=length, in_flight=window)) == alone


@pytest.mark.parametrize(("length", "window"), [(1, 2), (3, 1), (3, 3)])
def test_both_clocks_write_the_same(address: object, length: int, window: int) -> None:
    quick = LinkSettings(radio=None, rtt_s=0.004)
    timing = TimingProfile(draft_s=0.0, forward_s=0.0)
    for index in range(3):
        runs = []
        for clock in (None, EnforcedClock()):
            with Bench(
                address, FakeDrafter(X, V, [STOP]), "dense32", Sampling(), quick, clock=clock, timing=timing
            ) as device:
                runs.append(tokens(device.run("hlm", PROMPT, index=index, draft_length=length, in_flight=window)))
        assert runs[0] == runs[1]


def elapsed_s(device: Bench, **decode: int) -> tuple[float, int]:
    """Virtual seconds and tokens of a few answers."""
    started_s, count = device.clock.now(), 0
    for index in range(6):
        count += len(device.run("hlm", PROMPT, index=index, max_tokens=60, **decode))
    return device.clock.now() - started_s, count


def test_the_virtual_clock_shows_the_overlap(address: object) -> None:
    """A window as deep as the round trip hides it for every accepted draft."""
    with bench(address) as device:
        waiting_s, count = elapsed_s(device)
        flying_s, same = elapsed_s(device, in_flight=64)
    assert count == same
    assert flying_s < 0.75 * waiting_s


def test_a_round_that_waits_takes_what_it_always_took(address: object) -> None:
    with bench(address) as device:
        device.run("hlm", PROMPT, max_tokens=1)
        started_s = device.clock.now()
        (record,) = device.run("hlm", PROMPT, max_tokens=1)
        # The draft is made while Open travels; then a round trip. The LLM's row is left from the prefill.
        assert device.clock.now() - started_s == pytest.approx(0.2 + 0.2)
        assert record.link_s == pytest.approx(0.2)


@pytest.mark.parametrize(("length", "window"), [(1, 4), (3, 3)])
def test_everything_sent_is_billed_once(address: object, length: int, window: int) -> None:
    with bench(address) as device:
        records = [r for index in range(8) for r in device.run(
            "hlm", PROMPT, index=index, draft_length=length, in_flight=window)]  # fmt: skip
        opens = sum(device.ledger.pop(round).wire_bytes for round in sorted(device.ledger._parts))
        totals = device.ledger.totals()
        assert not device.ledger._parts and not device.ledger._unanswered, "no bill is left behind"
        assert sum(r.wire_bytes for r in records) + opens == totals.wire_bytes
        assert sum(r.model_bits for r in records) == totals.model_bit
        judged = sum(r.uploaded for r in records)
        assert totals.model_bit > judged * V * 32, "drafts that were never judged are paid for"


def test_time_spent_on_drafts_that_fell_is_charged(address: object) -> None:
    with bench(address) as device:
        records = device.run("hlm", PROMPT, max_tokens=60, in_flight=8)
    assert sum(r.draft_s for r in records) > 0.01 * len(records) + 0.05


@pytest.mark.parametrize("taken", [1, 2, 5, 9])
@pytest.mark.parametrize(("policy", "length", "window"), [("hlm", 1, 3), ("hlm", 4, 1), ("hlm", 4, 3), ("ui", 1, 4)])
def test_dropped_answer_leaves_what_was_read_and_the_next_one_goes_on(
    address: object, policy: str, length: int, window: int, taken: int
) -> None:
    decode = {"draft_length": length, "in_flight": window}
    with bench(address) as device:
        conversation = Conversation(session_key(0, taken))
        conversation.extend(list(PROMPT))
        answer = device.decoder(policy, 32, KNOBS, **decode).answer(conversation)
        read = tokens(list(itertools.islice(answer, taken)))
        answer.close()
        assert conversation.ids == [*PROMPT, *read]
        assert conversation.session is None
        # The cache holds no more than what is committed, and nothing else.
        assert device.drafter.ids[: conversation.drafted] == conversation.ids[: conversation.drafted]
        conversation.extend([9, 9])
        rest = tokens(list(device.decoder(policy, 12, KNOBS, **decode).answer(conversation)))
        conversation.end_session()
        assert conversation.ids == [*PROMPT, *read, 9, 9, *rest]
    with bench(address) as fresh:
        again = Conversation(session_key(0, taken))
        again.extend([*PROMPT, *read, 9, 9])
        assert tokens(list(fresh.decoder(policy, 12, KNOBS, **decode).answer(again))) == rest
        again.end_session()


def test_answer_ends_at_its_limit_whatever_the_block(address: object) -> None:
    with bench(address) as device:
        for limit, length in itertools.product(range(1, 12), (2, 3, 5)):
            records = device.run("hlm", PROMPT, max_tokens=limit, draft_length=length, in_flight=3)
            assert len(records) == limit or records[-1].stop


def test_nothing_follows_a_stop_token(address: object) -> None:
    """Neither a draft, nor a guess, nor a bonus; and the session is right for the next turn."""
    stopped = 0
    with bench(address, "coupled") as device:
        for index in range(40):
            stopped += sum(record.stop for record in two_turns(device, index, 48, draft_length=4, in_flight=2)[1])
    assert stopped > 5


@pytest.mark.parametrize(("length", "window", "limit"), [(2, 3, 7), (2, 3, 12), (3, 4, 12)])
def test_a_guess_that_would_end_the_answer_is_followed_by_nothing(length: int, window: int, limit: int) -> None:
    """Close models with many ends: the bonus guessed is now and then one of them, with room for one more draft."""
    stops = list(range(3, 9))
    y = mixed(X, contextual(V, 2), 0.1)
    with (
        serving(FakeEngine(y, V, stops)) as address,
        Bench(address, FakeDrafter(X, V, stops), "coupled", Sampling(), LINK, timing=TIMING) as device,
    ):
        for index in range(60):
            waiting, _ = two_turns(device, index, limit)
            flying, _ = two_turns(device, index, limit, draft_length=length, in_flight=window)
            assert flying == waiting


def two_turns(device: Bench, index: int, limit: int, **decode: int) -> tuple[list[int], list]:
    """Return the ids of a conversation of two turns, and the records of its answers."""
    conversation, written = Conversation(session_key(1, index)), []
    conversation.extend(list(PROMPT))
    for turn in range(2):
        records = list(device.decoder("hlm", limit, **decode).answer(conversation))
        assert all(not record.stop for record in records[:-1])
        assert conversation.told <= len(conversation.ids)
        written += records
        conversation.extend([9, turn])
    conversation.end_session()
    return conversation.ids, written


def rounds(records: list[TokenRecord]) -> list[list[TokenRecord]]:
    return [list(own) for _, own in itertools.groupby(records, lambda record: record.round)]


@pytest.mark.parametrize("codec", ["dense32", "coupled"])
def test_a_block_goes_out_with_its_first_draft_in_doubt(address: object, codec: str) -> None:
    ended = full = 0
    with bench(address, codec) as device:
        for index in range(6):
            records = device.run("hlm", PROMPT, index=index, max_tokens=40, draft_length=3, draft_p_min=0.05)
            for own in rounds(records)[:-2]:
                *before, last = [record for record in own if record.origin is not Origin.BONUS]
                assert all(record.x_d >= 0.05 for record in before)
                # A draft in doubt that stands is the last of its block; where three stand, none was in doubt before the third.
                if last.origin is Origin.ACCEPTED:
                    assert len(own) - len(before) == 1 + (len(before) > 0)
                    ended += len(before) < 2
                    full += len(before) == 2
                    assert (last.x_d < 0.05) or len(before) == 2
    assert ended > 5 and full > 5


@pytest.mark.parametrize("window", [1, 3])
def test_no_draft_goes_on_from_one_in_doubt(address: object, window: int) -> None:
    """With all in doubt drafts go one by one, with none in doubt blocks are full: the tokens are those of either."""
    with bench(address, "dense32") as device:
        for index, (p_min, length) in itertools.product(range(3), ((1.0, 1), (1e-12, 4))):
            plain = device.run("hlm", PROMPT, index=index, draft_length=length, in_flight=window)
            early = device.run("hlm", PROMPT, index=index, draft_length=4, draft_p_min=p_min, in_flight=window)
            assert tokens(early) == tokens(plain) and [r.origin for r in early] == [r.origin for r in plain]


@pytest.mark.parametrize("window", [1, 2])
def test_coupled_drafts_write_what_the_llm_writes_wherever_blocks_end(address: object, window: int) -> None:
    with bench(address, "coupled") as device:
        for index, p_min in itertools.product(range(3), (0.0, 0.05, 0.2)):
            alone = tokens(device.run("llm", PROMPT, index=index))
            early = device.run("hlm", PROMPT, index=index, draft_length=5, draft_p_min=p_min, in_flight=window)
            assert tokens(early) == alone


def test_drafts_that_come_one_by_one_have_no_block_to_end() -> None:
    for length in (1, AUTO):
        with pytest.raises(InvalidRequestError, match="set a draft length of 2 or more"):
            DecodeSettings(Sampling(), draft_length=length, draft_p_min=0.5)
    for p_min in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(InvalidRequestError, match="lies in 0 … 1"):
            DecodeSettings(Sampling(), draft_length=4, draft_p_min=p_min)


def test_a_run_that_ends_none_early_keeps_its_digest() -> None:
    """Runs saved before there was this setting go on."""
    assert "draft_p_min" not in RunConfig().to_dict()["decode"]
    early = RunConfig(decode=DecodeSettings(Sampling(), draft_length=4, draft_p_min=0.3))
    assert RunConfig.from_dict(early.to_dict()) == early
