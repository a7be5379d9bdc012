"""The decode loop: what it runs, what it sends, what it commits, and what it leaves behind.

The drafter and the engine log every forward, the sessions of the base station every message. A reference loop without
caches, streams or batches says what the text must be.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_basestation import session as basestation_session
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.verification import draw_alone, verify_chain
from uihlm_device.conversation import Conversation
from uihlm_device.record import Wants
from uihlm_device.rules.importance import importance
from uihlm_device.rules.policies import Evidence, Mode, Needs, PolicySettings
from uihlm_device.rules.policies import policy as named
from uihlm_device.rules.uncertainty import expected
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.codecs import CODECS, Codec
from uihlm_proto.errors import InvalidRequestError, UihlmError, UnavailableError
from uihlm_proto.randomness import Draws, Role, session_key, uniform
from uihlm_proto.sampling import Sampling
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

V = 40
Y = contextual(V, salt=2)
X = mixed(contextual(V, salt=1), Y, 0.75)
PROMPT = (1, 2, 3)
KNOBS = PolicySettings(theta_u=0.75, k=2, theta_c=0.75, rate=0.5)
POLICIES = ["llm", "slm", "hlm", "u", "i", "ui", "confidence", "random", "u-random"]
ASKING = [name for name in POLICIES if name != "slm"]
SKIPPING = ["u", "i", "ui", "confidence", "random", "u-random"]


@dataclass(slots=True)
class Station:
    """A served engine and every message its sessions were given."""

    engine: FakeEngine
    address: object = None
    opens: list[pb.Open] = field(default_factory=list)
    uploads: list[pb.Upload] = field(default_factory=list)


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    station = Station(FakeEngine(Y, V))
    session = basestation_session.Session
    opened, uploaded = session.open, session.upload

    async def noting_open(self: basestation_session.Session, request: pb.Open) -> pb.Ready:
        station.opens.append(request)
        return await opened(self, request)

    def noting_upload(self: basestation_session.Session, request: pb.Upload) -> AsyncIterator[pb.Verdict]:
        station.uploads.append(request)
        return uploaded(self, request)

    monkeypatch.setattr(session, "open", noting_open)
    monkeypatch.setattr(session, "upload", noting_upload)
    with serving(station.engine, max_sessions=4) as station.address:
        yield station


@pytest.fixture
def device(station: Station) -> Iterator[Bench]:
    with Bench(station.address, FakeDrafter(X, V)) as device:
        yield device


def start(prompt: Sequence[int] = PROMPT, index: int = 0) -> Conversation:
    conversation = Conversation(session_key(0, index))
    conversation.extend(list(prompt))
    return conversation


def write(device: Bench, conversation: Conversation, policy: str, limit: int = 32) -> list[TokenRecord]:
    return list(device.decoder(policy, limit, KNOBS).answer(conversation))


def reference(codec: Codec, policy: str, context: Sequence[int], key: bytes) -> tuple[int, Origin]:
    """The next token, from nothing but the ids: every distribution is that of a fresh prefill."""
    position, rule, sampling = len(context), named(policy, KNOBS), Sampling()
    y = sampling.distribution(Y(context))
    if rule.mode is Mode.LLM_ALONE:
        return draw_alone(y, Draws(key), position), Origin.LLM
    coded = codec.draft(sampling.distribution(X(context)), key, position)
    attention = FakeDrafter(X, V).forward(0, [*context, coded.token], Wants(attention=True)).attention
    evidence = Evidence(
        draft=coded.token,
        x_d=float(coded.x_hat[coded.token]),
        thin=uniform(key, Role.THIN, position),
        u=expected(X(context), coded.token),
        importance=importance(attention, gamma=1.0).count,
        logits=None,
        hidden=None,
    )
    if not rule.uploads(evidence):
        return coded.token, Origin.LOCAL
    verdict = verify_chain([codec.decode(coded.encode())], lambda i: y, codec.judge, Draws(key), position)
    return (coded.token, Origin.ACCEPTED) if verdict.token is None else (verdict.token, Origin.RESAMPLED)


def agree(device: Bench, conversation: Conversation, records: Sequence[TokenRecord], policy: str, start: int) -> None:
    """Check that records are what the reference writes after the first `start` ids, and that they were committed."""
    for i, record in enumerate(records, start):
        assert record.position == i
        assert conversation.ids[i] == record.token
        context = conversation.ids[:i]
        assert (record.token, record.origin) == reference(device.codec, policy, context, conversation.key)


# --- the text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", POLICIES)
def test_caches_and_streams_do_not_show_in_the_text(station: Station, policy: str, codec: str) -> None:
    """KV equality: after any rejection both models stand where a fresh prefill would."""
    with Bench(station.address, FakeDrafter(X, V), codec) as device:
        conversation = start()
        records = write(device, conversation, policy)
        conversation.end_session()
    agree(device, conversation, records, policy, len(PROMPT))
    assert len(records) == 32
    origins = {record.origin for record in records}
    assert policy not in SKIPPING or origins == {Origin.LOCAL, Origin.ACCEPTED, Origin.RESAMPLED}


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))])
def test_any_life_of_a_conversation_writes_the_reference(station: Station, seed: int) -> None:
    """Turns, drops, limits, reconnects and changes of policy in any order."""
    dice = random.Random(seed)
    with Bench(station.address, FakeDrafter(X, V), dice.choice(list(CODECS))) as device:
        conversation = start(index=seed)
        for _ in range(14):
            match dice.choice(["answer", "answer", "drop", "turn", "hang up"]):
                case "turn":
                    conversation.extend([dice.randrange(V) for _ in range(dice.randint(1, 4))])
                case "hang up":
                    conversation.end_session()
                case what:
                    policy, before = dice.choice(POLICIES), len(conversation.ids)
                    answer = device.decoder(policy, dice.randint(1, 9), KNOBS).answer(conversation)
                    if what == "answer":
                        records = list(answer)
                    else:
                        records = list(itertools.islice(answer, dice.randint(1, 5)))
                        answer.close()
                    agree(device, conversation, records, policy, before)
                    # A dropped `llm` round has been committed no further than it was read.
                    assert len(conversation.ids) - before == len(records)
        conversation.end_session()


# --- the drafter's cache --------------------------------------------------------------------------------------------


def test_hlm_spends_one_drafter_forward_a_token_and_none_on_rejected_drafts(device: Bench) -> None:
    records = device.run("hlm", PROMPT)
    assert {record.origin for record in records} == {Origin.ACCEPTED, Origin.RESAMPLED}
    # Prefill, then each committed token but the last, alone and after all before it.
    committed = [record.token for record in records]
    assert device.drafter.log == [(0, PROMPT), *((len(PROMPT) + i, (t,)) for i, t in enumerate(committed[:-1]))]


@pytest.mark.parametrize("policy", ["i", "ui"])
def test_attention_runs_the_draft_first_and_a_rejection_cuts_exactly_it(device: Bench, policy: str) -> None:
    records = device.run(policy, PROMPT, settings=KNOBS)
    expected: list[tuple[int, tuple[int, ...]]] = [(0, PROMPT)]
    for i, record in enumerate(records, len(PROMPT)):
        if record.origin is Origin.RESAMPLED:
            # The draft was run, then cut: position i alone is written again.
            rejected = device.drafter.log[len(expected)]
            assert rejected[0] == i and rejected[1] != (record.token,)
            expected.append(rejected)
            if record is not records[-1]:
                expected.append((i, (record.token,)))
        else:
            expected.append((i, (record.token,)))
    assert device.drafter.log == expected
    assert any(record.origin is Origin.RESAMPLED for record in records[:-1])


@pytest.mark.parametrize("policy", ["slm", "u", "confidence", "random"])
def test_policies_without_attention_run_no_draft_ahead(device: Bench, policy: str) -> None:
    records = device.run(policy, PROMPT, settings=KNOBS)
    assert device.drafter.forwards == len(records)
    assert all(record.importance is None and record.attention_entropy is None for record in records)


def test_llm_runs_no_drafter_at_all(device: Bench) -> None:
    device.run("llm", PROMPT)
    assert device.drafter.forwards == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_only_what_a_policy_needs_is_computed(device: Bench, policy: str) -> None:
    needs = named(policy, KNOBS).needs
    for record in device.run(policy, PROMPT, settings=KNOBS):
        assert (record.u is not None) == (Needs.UNCERTAINTY in needs)
        assert (record.importance is not None) == (Needs.IMPORTANCE in needs)
        assert (record.attention_max is not None) == (Needs.IMPORTANCE in needs)


# --- messages -------------------------------------------------------------------------------------------------------


def test_slm_needs_no_base_station(station: Station) -> None:
    with Bench("127.0.0.1:9", FakeDrafter(X, V)) as device:
        assert len(device.run("slm", PROMPT)) == 32
        assert device.ledger.totals().wire_bytes == 0


@pytest.mark.parametrize("policy", SKIPPING)
def test_a_skipped_token_costs_no_message_and_rides_on_the_next_upload(
    station: Station, device: Bench, policy: str
) -> None:
    records = device.run(policy, PROMPT, settings=KNOBS)
    asked = [record for record in records if record.uploaded]
    assert 0 < len(asked) < len(records)
    assert len(station.opens) == 1 and list(station.opens[0].prefix_ids) == list(PROMPT)
    assert len(station.uploads) == len(asked)
    sent: list[int] = []
    for upload, record in zip(station.uploads, asked, strict=True):
        # Every id committed since the last upload, and no other.
        assert upload.first_position == record.position
        assert not upload.context_ids
        assert list(upload.skipped_ids) == [r.token for r in records[len(sent) : record.position - len(PROMPT)]]
        assert len(upload.drafts) == 1 and not upload.generate
        sent += [*upload.skipped_ids, record.token]
    assert any(upload.skipped_ids for upload in station.uploads)
    # One forward an upload: none was run for the skipped alone.
    assert len(station.engine.log) <= 1 + len(asked)


@pytest.mark.parametrize("policy", ASKING)
def test_the_llm_sees_exactly_the_committed_prefix(station: Station, device: Bench, policy: str) -> None:
    records = device.run(policy, PROMPT, settings=KNOBS)
    ids = [*PROMPT, *(record.token for record in records)]
    asked = [r.position for r in records if r.uploaded or r.origin is Origin.LLM]
    ran = 0
    for work in station.engine.log:
        # Each position is run once, in order: nothing twice, nothing rejected, nothing left out.
        assert (work.keep_len, list(work.new_ids)) == (ran, ids[ran : ran + len(work.new_ids)])
        assert work.rows == 1
        ran += len(work.new_ids)
    # Up to the position before the last one asked about.
    assert ran == asked[-1]
    assert sum(record.llm_positions for record in records) == ran - len(PROMPT)


def test_epochs_count_the_corrections(station: Station, device: Bench) -> None:
    records = device.run("hlm", PROMPT)
    corrections = 0
    for upload, record in zip(station.uploads, records, strict=True):
        assert upload.epoch == corrections
        corrections += record.origin is Origin.RESAMPLED
    assert corrections > 1


def test_llm_sends_one_request_for_the_whole_answer(station: Station, device: Bench) -> None:
    records = device.run("llm", PROMPT, max_tokens=20)
    assert len(records) == 20
    assert [(upload.generate, len(upload.drafts)) for upload in station.uploads] == [(20, 0)]


# --- turns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", SKIPPING)
def test_the_unsent_tail_and_the_new_turn_are_context(station: Station, device: Bench, policy: str) -> None:
    conversation = start()
    first = write(device, conversation, policy)
    told, turn = conversation.told, [7, 8, 9]
    tail = conversation.ids[told:]
    conversation.extend(turn)
    before = len(station.uploads)
    second = write(device, conversation, policy)
    conversation.end_session()
    asked = next(record for record in second if record.uploaded)
    upload = station.uploads[before]
    assert list(upload.context_ids) == [*tail, *turn]
    assert list(upload.skipped_ids) == [r.token for r in second[: second.index(asked)]]
    assert not any(later.context_ids for later in station.uploads[before + 1 :])
    assert len(station.opens) == 1
    agree(device, conversation, first, policy, len(PROMPT))
    agree(device, conversation, second, policy, len(PROMPT) + len(first) + len(turn))


@pytest.mark.parametrize("policy", ["llm", "hlm"])
def test_a_new_turn_is_context_where_nothing_is_skipped(station: Station, device: Bench, policy: str) -> None:
    conversation = start()
    for turn in ([], [7, 8, 9], [5]):
        if turn:
            conversation.extend(turn)
        before, sent = len(conversation.ids), len(station.uploads)
        records = write(device, conversation, policy, 10)
        assert list(station.uploads[sent].context_ids) == turn
        assert not station.uploads[sent].skipped_ids
        assert {record.round for record in records} == ({1} if policy == "llm" else set(range(1, 11)))
        agree(device, conversation, records, policy, before)
    conversation.end_session()
    assert len(station.opens) == 1


def test_after_slm_the_next_policy_tells_what_was_written(station: Station, device: Bench) -> None:
    conversation = start()
    write(device, conversation, "hlm", 4)
    write(device, conversation, "slm", 6)
    assert len(station.uploads) == 4
    records = write(device, conversation, "hlm", 4)
    conversation.end_session()
    # No turn between them: they are one answer so far.
    assert list(station.uploads[4].skipped_ids) == conversation.ids[7:13]
    agree(device, conversation, records, "hlm", 13)


# --- ends -----------------------------------------------------------------------------------------------------------


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
    deadline_s = time.monotonic() + 5.0
    while station.engine.sessions and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert not station.engine.sessions
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


# --- the bill -------------------------------------------------------------------------------------------------------

COSTS = (
    *("forward_s", "queue_s", "link_s", "airtime_s", "model_bits", "payload_bits", "wire_bytes"),
    *("llm_forwards", "llm_positions"),
)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", ["slm", "hlm", *SKIPPING])
def test_a_round_s_costs_stand_on_its_token_and_zeros_on_the_others(station: Station, policy: str, codec: str) -> None:
    with Bench(station.address, FakeDrafter(X, V), codec, link=LinkSettings(rtt_s=0.01)) as device:
        records = device.run(policy, PROMPT, settings=KNOBS)
    skipped, rounds = 0, 0
    id_bits, payload = 6, 8 * device.codec.max_payload_bytes
    model = {"dense32": V * 32, "dense16": V * 16}.get(codec)
    for record in records:
        if not record.uploaded:
            assert record.origin is Origin.LOCAL and record.round is None
            assert all(getattr(record, name) == 0 for name in COSTS)
            assert record.y_d is record.tv is record.reject_prob is None
            skipped += 1
            continue
        rounds += 1
        assert record.round == rounds
        assert record.payload_bits == payload + skipped * id_bits
        assert record.model_bits == (model or record.payload_bits)
        assert record.wire_bytes * 8 > record.payload_bits
        assert record.link_s == pytest.approx(record.airtime_s + 0.01) and record.airtime_s > 0.0
        # The first round finds the row of the prefill at hand, unless something was skipped before it.
        assert record.llm_forwards == (0 if rounds == 1 and not skipped else 1)
        assert record.llm_positions == skipped + (rounds > 1)
        assert record.y_d is not None
        skipped = 0
    uploaded = sum(record.uploaded for record in records)
    accepted, resampled = (sum(r.origin is o for r in records) for o in (Origin.ACCEPTED, Origin.RESAMPLED))
    assert uploaded == accepted + resampled == rounds == len(station.uploads)
    totals = device.ledger.totals()
    assert sum(record.model_bits for record in records) == totals.model_bit
    assert sum(record.payload_bits for record in records) == totals.payload_bit
    # On the wire there is Open and its answer besides.
    assert (sum(record.wire_bytes for record in records) < totals.wire_bytes) == (policy != "slm")


def test_llm_costs_one_forward_a_token_counting_the_prefill(station: Station) -> None:
    with Bench(station.address, FakeDrafter(X, V), link=LinkSettings(rtt_s=0.01)) as device:
        conversation = start()
        records = write(device, conversation, "llm", 20)
        prefill = conversation.open_cost
        conversation.end_session()
    assert (prefill.forwards, prefill.positions) == (1, len(PROMPT))
    assert [record.llm_forwards for record in records] == [0] + [1] * 19
    assert prefill.forwards + sum(record.llm_forwards for record in records) == 20
    assert sum(record.llm_positions for record in records) == 19
    assert len(station.engine.log) == 20
    assert not any(record.uploaded or record.model_bits or record.payload_bits for record in records)
    # One request, one round trip: paid by the first token.
    assert [record.link_s > 0.0 for record in records] == [True] + [False] * 19
    assert {record.round for record in records} == {1}


def test_hlm_runs_the_llm_as_often_as_the_llm_alone(station: Station, device: Bench) -> None:
    conversation = start()
    records = write(device, conversation, "hlm", 20)
    assert conversation.open_cost.forwards + sum(record.llm_forwards for record in records) == 20
    conversation.end_session()


@pytest.mark.parametrize("policy", ["hlm", "ui", "slm"])
def test_drafting_takes_the_time_of_the_profile(device: Bench, policy: str) -> None:
    records = device.run(policy, PROMPT, settings=KNOBS)
    assert {record.draft_s for record in records} == {0.01}
    assert device.clock.now() > 0.3199
    assert policy != "slm" or device.clock.now() == pytest.approx(0.32)


def test_llm_writes_until_the_base_stations_context_is_full() -> None:
    engine = FakeEngine(contextual(V, salt=1), V)
    engine.max_context = 12
    with serving(engine) as address, Bench(address, FakeDrafter(contextual(V, salt=2), V)) as bench:
        assert len(bench.run("llm", prompt=(1, 2, 3), max_tokens=32)) == 9
        assert len(bench.run("llm", prompt=(1, 2, 3), max_tokens=4)) == 4


@pytest.mark.parametrize("policy", ["hlm", "llm"])
def test_a_fixed_forward_time_is_charged_for_each_forward_that_ran(policy: str) -> None:
    """The first token's row is left from the prefill: no forward runs for it, and none is charged."""
    timing = TimingProfile(draft_s=0.01, forward_s=0.02)
    with (
        serving(FakeEngine(contextual(V, salt=1), V)) as address,
        Bench(address, FakeDrafter(contextual(V, salt=2), V), timing=timing) as bench,
    ):
        records = bench.run(policy, max_tokens=10)
        forwards = sum(record.llm_forwards for record in records)
        assert forwards == len(records) - 1
        assert sum(record.forward_s for record in records) == pytest.approx(0.02 * forwards)
