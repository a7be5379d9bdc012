"""What the decode loop must write, said without caches, streams or batches; and a base station that notes its messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from known_rows import Known
from uihlm_basestation import session as basestation_session
from uihlm_basestation.verification import draw_alone, verify_chain
from uihlm_device.conversation import Conversation
from uihlm_device.record import Wants
from uihlm_device.rules.importance import importance
from uihlm_device.rules.policies import Evidence, Mode, PolicySettings
from uihlm_device.rules.policies import policy as named
from uihlm_device.rules.uncertainty import expected
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.codecs import Codec
from uihlm_proto.randomness import Draws, Role, session_key, uniform
from uihlm_proto.sampling import Sampling
from uihlm_proto.v1 import verification_pb2 as pb

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


def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """Serve an engine and note what its sessions are given; for a fixture."""
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
        return draw_alone(Known(y), Draws(key), position), Origin.LLM
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
    verdict = verify_chain([codec.decode(coded.encode())], lambda i: Known(y), codec.judge, Draws(key), position)
    return (coded.token, Origin.ACCEPTED) if verdict.token is None else (verdict.token, Origin.RESAMPLED)


def agree(device: Bench, conversation: Conversation, records: Sequence[TokenRecord], policy: str, start: int) -> None:
    """Check that records are what the reference writes after the first `start` ids, and that they were committed."""
    for i, record in enumerate(records, start):
        assert record.position == i
        assert conversation.ids[i] == record.token
        context = conversation.ids[:i]
        assert (record.token, record.origin) == reference(device.codec, policy, context, conversation.key)
