"""The decode loop: the text it writes, and what it runs on the drafter."""

from __future__ import annotations

import itertools
import random

import pytest

from fakes import Bench, FakeDrafter
from loop_reference import KNOBS, POLICIES, PROMPT, SKIPPING, Station, V, X, agree, start, write
from uihlm_device.rules.policies import Needs
from uihlm_device.rules.policies import policy as named
from uihlm_device.tokens import Origin
from uihlm_proto.codecs import CODECS


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
