"""What the decode loop tells the base station: uploads, and turns of a conversation."""

from __future__ import annotations

import pytest

from fakes import Bench, FakeDrafter
from loop_reference import ASKING, KNOBS, PROMPT, SKIPPING, Station, V, X, agree, start, write
from uihlm_device.tokens import Origin


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
