"""Audits of skipped tokens, through the real server: what is told is right, and asking changes no token and no other bill."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.conversation import Conversation
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.audit import decode, encode
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

V = 40
PROMPT = (1, 2, 3)
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.4)
SAMPLING = Sampling(temperature=0.7, top_k=20)
KNOBS = PolicySettings(theta_u=0.75, k=2)
CASES = [("u", 1, "dense32"), ("u", 3, "coupled"), ("u-random", 2, "lattice"), ("u", 3, "dense16")]


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine(Y, V)


@pytest.fixture(scope="module")
def address(engine: FakeEngine) -> Iterator[object]:
    with serving(engine) as address:
        yield address


def written(
    address: object, codec: str, policy: str, turns: int = 1, **decode_settings: int
) -> tuple[Bench, Conversation, list[list[TokenRecord]]]:
    """Write some turns; the last one's audit is the conversation's."""
    with Bench(address, FakeDrafter(X, V), codec, SAMPLING) as bench:
        conversation = Conversation(session_key(0, 5))
        answers = []
        for turn in range(turns):
            conversation.extend([*PROMPT, turn])
            answers.append(list(bench.decoder(policy, 40, KNOBS, **decode_settings).answer(conversation)))
        conversation.end_session()
    return bench, conversation, answers


@pytest.mark.parametrize(("policy", "window", "codec"), CASES)
def test_every_skipped_token_is_told_its_rejection_probability(
    address: object, policy: str, window: int, codec: str
) -> None:
    _, conversation, answers = written(address, codec, policy, turns=2, in_flight=window, audit=True)
    skipped = [r for r in answers[-1] if r.origin is Origin.LOCAL]
    assert len(skipped) > 10 and any(r.uploaded for r in answers[-1])
    assert sorted(conversation.audit.reject_prob) == [r.position for r in skipped]
    risks = []
    for record in skipped:
        y = SAMPLING.distribution(Y(conversation.ids[: record.position]))
        told = conversation.audit.reject_prob[record.position]
        assert record.x_d is not None
        assert told == pytest.approx(max(0.0, 1.0 - y[record.token] / decode(encode(record.x_d))), abs=1e-6)
        risks.append(told)
    assert max(risks) > 0.3, "nothing was at stake"


def test_models_that_agree_risk_nothing() -> None:
    with serving(FakeEngine(X, V)) as address:
        _, conversation, answers = written(address, "dense32", "u", audit=True)
    assert sum(r.origin is Origin.LOCAL for r in answers[0]) == conversation.audit.audited > 10
    assert conversation.audit.risk_sum == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("policy", "window", "codec"), CASES)
def test_audit_changes_no_token_and_costs_its_bytes_alone(
    address: object, policy: str, window: int, codec: str
) -> None:
    plain, _, without = written(address, codec, policy, in_flight=window)
    audited, conversation, with_audit = written(address, codec, policy, in_flight=window, audit=True)
    assert [r.token for r in without[0]] == [r.token for r in with_audit[0]]
    before, after = plain.ledger.totals(), audited.ledger.totals()
    assert conversation.audit.sent_bit > 0
    assert after.payload_bit == before.payload_bit + conversation.audit.sent_bit
    dense = codec.startswith("dense")
    assert after.model_bit == before.model_bit + (0 if dense else conversation.audit.sent_bit)
    assert after.forward_s == before.forward_s
    if window == 1:
        assert audited.clock.now() == pytest.approx(plain.clock.now(), abs=1e-9)
        assert sum(r.llm_positions for r in without[0]) == sum(r.llm_positions for r in with_audit[0])


def test_tail_is_audited_off_the_bill(engine: FakeEngine, address: object) -> None:
    """With every token skipped, all there is of the audit is the tail's; the clock and the ledger know nothing of it."""
    engine.log.clear()
    with Bench(address, FakeDrafter(X, V)) as bench:
        conversation = Conversation(session_key(0, 5))
        conversation.extend(list(PROMPT))
        knobs = PolicySettings(theta_u=1.0)
        plain = list(bench.decoder("u", 12, knobs).answer(conversation))
        conversation.end_session()
        before, at = bench.ledger.totals(), bench.clock.now()
        again = Conversation(session_key(0, 5))
        again.extend(list(PROMPT))
        records = list(bench.decoder("u", 12, knobs, audit=True).answer(again))
        assert again.told == len(again.ids)
        again.end_session()
        opening = bench.ledger.totals().wire_bytes - before.wire_bytes
        assert [r.token for r in records] == [r.token for r in plain]
        assert sorted(again.audit.reject_prob) == [r.position for r in records]
        assert again.audit.sent_bit == 0
        assert bench.ledger.totals().payload_bit == 0
        assert opening == before.wire_bytes, "two Opens and nothing else"
        assert bench.clock.now() - at == pytest.approx(at)
    # One output row a skipped token; the last one's own row nobody wants, and the first one's is the prefill's.
    assert engine.log[-1].rows == len(records) - 1 == len(engine.log[-1].new_ids)


def test_session_goes_on_after_the_tail_was_audited(address: object) -> None:
    """The second turn's tokens are those of a loop that audits nothing."""
    for codec in ("dense32", "coupled"):
        _, _, plain = written(address, codec, "u", turns=3)
        _, _, audited = written(address, codec, "u", turns=3, audit=True)
        assert [[r.token for r in answer] for answer in plain] == [[r.token for r in answer] for answer in audited]


def test_answer_that_fills_the_context_is_audited_to_its_end(address: object) -> None:
    with serving(small := FakeEngine(Y, V)) as narrow:
        small.max_context = 20
        drafter = FakeDrafter(X, V)
        drafter.max_context = 20
        with Bench(narrow, drafter) as bench:
            conversation = Conversation(session_key(0, 1))
            conversation.extend(list(PROMPT))
            records = list(bench.decoder("u", 40, PolicySettings(theta_u=1.0), audit=True).answer(conversation))
            conversation.end_session()
    assert len(records) == 17 == conversation.audit.audited


@pytest.mark.parametrize(("policy", "tree"), [("hlm", 0), ("hlm", 4), ("llm", 0), ("slm", 0)])
def test_who_skips_nothing_or_never_asks_is_not_audited(address: object, policy: str, tree: int) -> None:
    _, conversation, answers = written(address, "coupled", policy, turns=2, audit=True, tree=tree)
    assert [len(answer) for answer in answers] == [40, 40]
    assert conversation.audit.audited == 0 and np.isclose(conversation.audit.risk_sum, 0.0)
