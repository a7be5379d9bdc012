"""What the decode loop's tokens are charged."""

from __future__ import annotations

import itertools
import time

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, serving
from loop_reference import KNOBS, PROMPT, SKIPPING, Station, V, X, start, write
from uihlm_device.tokens import Origin
from uihlm_proto.codecs import CODECS
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

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


def test_each_token_of_the_llm_has_its_own_time_however_far_ahead_the_stream_was_read(device: Bench) -> None:
    conversation, stamps_s = start(), list[float]()
    for record in device.decoder("llm", 10, KNOBS).answer(conversation):
        # By now the first token's reader may find every answer there.
        while not stamps_s and device.ledger.totals().forward_s < 0.0199 * 9:
            time.sleep(0.001)
        stamps_s.append(device.clock.now())
        assert record.origin is Origin.LLM
    conversation.end_session()
    # The first token's row is left from the prefill.
    assert [after - before for before, after in itertools.pairwise(stamps_s)] == pytest.approx([0.02] * 9)


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
