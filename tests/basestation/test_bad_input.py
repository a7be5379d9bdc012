"""Bad input is refused with the right status and a sentence that helps, and never disturbs another session.

Every case runs through the real server over loopback beside a neighbour that is in the middle of an answer.
"""

import asyncio
import contextlib
import math
import re
import time

import grpc
import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual
from stations import GatedEngine, RawClient, eventually, one_hot_payload, opening, standing, upload
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.servicer import VerificationServicer
from uihlm_device.conversation import Conversation
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

V = 12
ENGINE_LOGITS = contextual(V, salt=1)
DRAFTER_LOGITS = contextual(V, salt=2)
CODE = grpc.StatusCode


class Neighbour:
    """A real device in the middle of an answer."""

    def __init__(self, address, policy="hlm"):
        self.bench = Bench(address, FakeDrafter(DRAFTER_LOGITS, V))
        self.conversation = Conversation(session_key(9, 9))
        self.conversation.extend([4, 5, 6])
        self._answer = self.bench.decoder(policy, max_tokens=16).answer(self.conversation)
        self.tokens = []

    def write(self, n):
        self.tokens += [next(self._answer).token for _ in range(n)]

    def finish(self):
        self.tokens += [record.token for record in self._answer]

    def close(self):
        self.conversation.end_session()
        self.bench.close()


@pytest.fixture(scope="module")
def undisturbed():
    """What the neighbour writes when it is alone."""
    with standing(FakeEngine(ENGINE_LOGITS, V)) as station, contextlib.closing(Neighbour(station.address)) as neighbour:
        neighbour.finish()
    assert len(neighbour.tokens) == 16
    return neighbour.tokens


@contextlib.contextmanager
def beside_a_neighbour(undisturbed, engine=None, max_sessions=16):
    """Yield (station, engine, raw client) while a neighbour is mid-answer; then check that it came to no harm."""
    engine = engine or FakeEngine(ENGINE_LOGITS, V)
    with standing(engine, max_sessions) as station, RawClient(station.address) as raw:
        with contextlib.closing(Neighbour(station.address)) as neighbour:
            neighbour.write(5)
            own = set(engine.sessions)
            assert len(own) == station.sessions == 1
            yield station, engine, raw
            assert eventually(lambda: station.sessions == 1), "the bad session still counts"
            assert eventually(lambda: set(engine.sessions) == own), "the engine still holds the bad session"
            neighbour.finish()
            assert neighbour.tokens == undisturbed
        assert eventually(lambda: station.sessions == 0 and not engine.sessions)


BAD_OPENS = {
    "protocol version": ({"protocol_version": 2}, CODE.FAILED_PRECONDITION, "protocol version 2 .* speaks 1"),
    "no protocol version": ({"protocol_version": 0}, CODE.FAILED_PRECONDITION, "protocol version 0"),
    "vocabulary size": ({"vocabulary_size": 13}, CODE.FAILED_PRECONDITION, "has 13 tokens, the LLM's 12"),
    "fingerprint": (
        {"tokenizer_fingerprint": bytes(32)},
        CODE.FAILED_PRECONDITION,
        "use two models with one tokenizer",
    ),
    "no fingerprint": ({"tokenizer_fingerprint": b""}, CODE.FAILED_PRECONDITION, "use two models with one tokenizer"),
    "id in prefix": ({"prefix_ids": [1, 12]}, CODE.INVALID_ARGUMENT, "token id 12 is outside the vocabulary of 12"),
    "huge id in prefix": ({"prefix_ids": [2**32 - 1]}, CODE.INVALID_ARGUMENT, "token id 4294967295 is outside"),
    "empty prefix": ({"prefix_ids": []}, CODE.INVALID_ARGUMENT, "at least one token"),
    "over-long prompt": ({"prefix_ids": [1] * 4097}, CODE.INVALID_ARGUMENT, "4097 .* 4096: shorten the prompt"),
    "short key": ({"session_key": bytes(15)}, CODE.INVALID_ARGUMENT, "session_key must have 16 bytes, got 15"),
    "no key": ({"session_key": b""}, CODE.INVALID_ARGUMENT, "session_key must have 16 bytes, got 0"),
    "long key": ({"session_key": bytes(17)}, CODE.INVALID_ARGUMENT, "session_key must have 16 bytes, got 17"),
    "negative temperature": (
        {"sampling": pb.Sampling(temperature=-1.0)},
        CODE.INVALID_ARGUMENT,
        "temperature must be a finite number of at least 0, got -1",
    ),
    "temperature not a number": (
        {"sampling": pb.Sampling(temperature=math.nan)},
        CODE.INVALID_ARGUMENT,
        "temperature must be a finite number",
    ),
    "infinite temperature": (
        {"sampling": pb.Sampling(temperature=math.inf)},
        CODE.INVALID_ARGUMENT,
        "temperature must be a finite number",
    ),
    "top_p above 1": (
        {"sampling": pb.Sampling(top_p=1.5)},
        CODE.INVALID_ARGUMENT,
        "top_p must be above 0 and at most 1",
    ),
    "negative top_p": ({"sampling": pb.Sampling(top_p=-0.5)}, CODE.INVALID_ARGUMENT, "top_p must be above 0"),
    "top_p not a number": ({"sampling": pb.Sampling(top_p=math.nan)}, CODE.INVALID_ARGUMENT, "top_p must be above 0"),
    "unknown codec": ({"codec": "zip"}, CODE.INVALID_ARGUMENT, "unknown codec 'zip': this end knows coupled, dense16"),
    "no codec": ({"codec": ""}, CODE.INVALID_ARGUMENT, "unknown codec ''"),
    "a codec name of three thousand letters": ({"codec": "z" * 3000}, CODE.INVALID_ARGUMENT, "unknown codec 'z{64}'"),
    "lattice too large": ({"codec": "lattice:k=100000"}, CODE.INVALID_ARGUMENT, "takes k=1…128 and l=1…4096"),
    "lattice without a value": ({"codec": "lattice:tv="}, CODE.INVALID_ARGUMENT, "'tv=' in the codec name"),
}


@pytest.mark.parametrize("kind", BAD_OPENS)
def test_a_bad_open_is_refused(kind, undisturbed):
    changes, code, sentence = BAD_OPENS[kind]
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.stream()
        stream.send(opening(engine, **changes))
        assert_refused(stream, code, sentence)


def assert_refused(stream, code, sentence):
    got, details = stream.refusal()
    assert got is code, details
    assert re.search(sentence, details), details


def dense(x, token=0, dtype="<f4"):
    return {"drafts": [pb.Draft(payload=bytes([token]) + np.asarray(x, dtype).tobytes())]}


def flat(**changes):
    """Twelve twelfths, but for the changes."""
    x = np.full(V, 1 / V)
    for index, value in changes.items():
        x[int(index[1:])] = value
    return x


GOOD = one_hot_payload(0, V)

BAD_UPLOADS = {
    "NaN in the distribution": (dense(flat(_3=math.nan)), "value that is not finite"),
    "infinity in the distribution": (dense(flat(_3=math.inf)), "value that is not finite"),
    "negative in the distribution": (dense(flat(_3=-1 / V, _4=3 / V)), "has a negative value"),
    "too little mass": (dense(flat() * 0.9), "sums to 0.9, not to 1 within 0.0001"),
    "too much mass": (dense(flat() * 1.001), "sums to 1.001, not to 1 within 0.0001"),
    "no mass": (dense(flat() * 0), "sums to 0, not to 1"),
    "a draft of probability 0": (dense(np.eye(V)[5]), "draft 0 has probability 0 in its own distribution"),
    "draft id out of range": (dense(flat(), token=12), "draft id 12 is outside the vocabulary of 12"),
    "empty payload": ({"drafts": [pb.Draft()]}, "has 49 bytes, got 0"),
    "truncated payload": ({"drafts": [pb.Draft(payload=GOOD[:-1])]}, "has 49 bytes, got 48"),
    "payload too long": ({"drafts": [pb.Draft(payload=GOOD + b"\0")]}, "has 49 bytes, got 50"),
    "payload of another codec": (dense(flat(), dtype="<f2"), "has 49 bytes, got 25"),
    "bad draft within a chain": (
        {"drafts": [pb.Draft(payload=GOOD), pb.Draft(payload=GOOD[:-4]), pb.Draft(payload=GOOD)]},
        "has 49 bytes, got 45",
    ),
    "skipped id out of range": ({"skipped_ids": [1, 99], "first_position": 5}, "token id 99 is outside"),
    "context id out of range": ({"context_ids": [12], "first_position": 4}, "token id 12 is outside"),
    "drafts and generate": ({"generate": 4}, "either drafts or generate > 0, and not both"),
    "neither drafts nor generate": ({"drafts": []}, "either drafts or generate > 0, and not both"),
    "position too low": ({"first_position": 2}, "first_position is 2, but the ids sent so far end at 3"),
    "position too high": ({"first_position": 4}, "first_position is 4, but the ids sent so far end at 3"),
    "position ahead of the skipped ids": (
        {"skipped_ids": [1]},
        "first_position is 3, but the ids sent so far end at 4",
    ),
    "future epoch": ({"epoch": 1}, "epoch 1 is ahead of this session's 0 corrections"),
    "too many drafts": (
        {"drafts": [pb.Draft(payload=GOOD)] * (MAX_DRAFTS + 1)},
        f"65 drafts in one upload: at most {MAX_DRAFTS}",
    ),
    "skipped ids beyond the context": ({"skipped_ids": [1] * 4093, "first_position": 4096}, "4097 .* holds 4096"),
    "a tree with a distribution": ({"parents": [-1]}, "open the session with the codec coupled, not dense32"),
    "an audit of tokens that were not sent": ({"audit": b"\1"}, "audit holds 1 bytes for 0 skipped ids"),
    "an audit of too few tokens": (
        {"audit": b"\1", "skipped_ids": [1, 2], "first_position": 5},
        "audit holds 1 bytes for 2 skipped ids",
    ),
    "an audit alone of too few tokens": (
        {"audit": b"\1", "skipped_ids": [1, 2], "first_position": 5, "drafts": []},
        "audit holds 1 bytes for 2 skipped ids",
    ),
    "an audit with generate": (
        {"audit": b"\1", "skipped_ids": [1], "first_position": 4, "drafts": [], "generate": 2},
        "not with generate, nor with a tree",
    ),
    "an audit of a tree": (
        {"audit": b"\1", "skipped_ids": [1], "first_position": 4, "parents": [-1]},
        "not with generate, nor with a tree",
    ),
    "a bonus that never came": ({"assumed_id": 3}, "no bonus token came before this upload"),
}


@pytest.mark.parametrize("kind", BAD_UPLOADS)
def test_a_bad_upload_is_refused(kind, undisturbed):
    changes, sentence = BAD_UPLOADS[kind]
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine)
        stream.send(upload(engine, **changes))
        assert_refused(stream, CODE.INVALID_ARGUMENT, sentence)


@pytest.mark.parametrize(
    ("codec", "payload", "sentence"),
    [
        ("dense16", b"\0" + np.full(V, math.nan, "<f2").tobytes(), "not finite"),
        ("dense16", b"\0" + np.full(V, 0.07, "<f2").tobytes(), "sums to 0.84.*, not to 1 within 0.01"),
        ("dense16", GOOD, "has 25 bytes, got 49"),
        ("coupled", b"", "a coupled draft has 1 bytes, got 0"),
        ("coupled", b"\0\0", "a coupled draft has 1 bytes, got 2"),
        ("coupled", b"\x0c", "draft id 12 is outside the vocabulary of 12"),
    ],
)
def test_a_bad_payload_of_any_codec_is_refused(codec, payload, sentence, undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine, codec=codec)
        stream.send(upload(engine, drafts=[pb.Draft(payload=payload)]))
        assert_refused(stream, CODE.INVALID_ARGUMENT, sentence)


def test_an_upload_before_open_is_refused(undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.stream()
        stream.send(upload(engine))
        assert_refused(stream, CODE.INVALID_ARGUMENT, "the session is new: Open comes first")


def test_a_second_open_is_refused(undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine)
        stream.send(opening(engine))
        assert_refused(stream, CODE.INVALID_ARGUMENT, "already open: Open is the first message, once")


@pytest.mark.parametrize("opened", [False, True])
def test_an_empty_request_is_refused(opened, undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine) if opened else raw.stream()
        stream.send(pb.VerifyRequest())
        assert_refused(stream, CODE.INVALID_ARGUMENT, "holds open or upload, got neither")


def test_bytes_that_are_no_message_end_only_their_stream(undisturbed):
    with beside_a_neighbour(undisturbed) as (_, _, raw):
        verify = raw.channel.stream_stream("/uihlm.v1.VerificationService/Verify")
        call = verify(iter([b"\xff\xff\xff"]), timeout=5)
        with pytest.raises(grpc.RpcError):
            next(call)


def test_a_message_beyond_the_size_limit_ends_only_its_stream(undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.stream()
        stream.send(opening(engine, prefix_ids=[1] * 1_000_000))
        assert_refused(stream, CODE.RESOURCE_EXHAUSTED, "larger than max")


def test_one_session_too_many_is_refused_and_one_that_ends_makes_room(undisturbed):
    with beside_a_neighbour(undisturbed, max_sessions=2) as (station, engine, raw):
        second = raw.opened(engine)
        third = raw.stream()
        third.send(opening(engine))
        assert_refused(third, CODE.RESOURCE_EXHAUSTED, "all 2 sessions are taken: try again later")
        with pytest.raises(grpc.RpcError) as raised:
            raw.stub.Score(pb.ScoreRequest(tokenizer_fingerprint=engine.fingerprint, context_ids=[1], target_ids=[2]))
        assert raised.value.code() is CODE.RESOURCE_EXHAUSTED
        assert station.sessions == 2
        second.half_close()
        assert second.refusal()[0] is CODE.OK
        assert eventually(lambda: station.sessions == 1)
        fourth = raw.opened(engine)
        fourth.half_close()
        assert fourth.refusal()[0] is CODE.OK


def test_a_full_base_station_refuses_only_once_the_open_is_here(undisturbed):
    """A grpc.aio client whose write fails after the status came reports the failed write, not the refusal (grpc#36066)."""
    with beside_a_neighbour(undisturbed, max_sessions=1) as (_, engine, raw):
        stream = raw.stream()
        time.sleep(0.2)
        assert stream.call.is_active(), "refused before it said anything"
        stream.send(opening(engine))
        assert_refused(stream, CODE.RESOURCE_EXHAUSTED, "all 1 sessions are taken")


def test_many_bad_sessions_leave_nothing_behind(undisturbed):
    with beside_a_neighbour(undisturbed, max_sessions=3) as (_, engine, raw):
        for _ in range(10):
            stream = raw.stream()
            stream.send(opening(engine), upload(engine, first_position=7))
            assert_refused(stream, CODE.INVALID_ARGUMENT, "out of step")


def test_a_draining_base_station_refuses_new_sessions_and_sends_idle_ones_away():
    """The servicer by itself on a plain server: BaseStation.stop shuts the port as well."""

    async def scenario():
        engine = FakeEngine(ENGINE_LOGITS, V)
        servicer = VerificationServicer(engine, batcher := Batcher(engine), max_sessions=4)
        server = grpc.aio.server()
        pb_grpc.add_VerificationServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            stub = pb_grpc.VerificationServiceStub(channel)
            old = stub.Verify(timeout=5)
            await old.write(opening(engine))
            assert (await old.read()).HasField("ready")
            servicer.drain()
            new = stub.Verify(timeout=5)
            await new.write(opening(engine))
            assert await new.code() is CODE.UNAVAILABLE
            assert "shutting down: connect to another one, or again later" in await new.details()
            assert await old.code() is CODE.UNAVAILABLE
            assert "shutting down: connect to another one, or again later" in await old.details()
            assert not engine.sessions and not servicer.sessions
        await server.stop(0)
        await batcher.close()

    asyncio.run(scenario())


def least_likely(engine_ids):
    return int(np.argmin(ENGINE_LOGITS(engine_ids)))


def drafted(token, **changes):
    return {"drafts": [pb.Draft(payload=one_hot_payload(token, V))], **changes}


def test_a_stale_epoch_is_answered_as_stale_and_the_session_goes_on(undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine)
        ids = [1, 2, 3]
        corrected = stream.ask(upload(engine, **drafted(least_likely(ids)))).verdict
        assert (corrected.accepted, corrected.HasField("token_id"), corrected.stale) == (0, True, False)
        ids.append(corrected.token_id)
        before = [list(held) for held in engine.sessions.values()]
        # Built before the device knew of the correction: another epoch, positions and even a draft that make no sense now.
        stale = stream.ask(upload(engine, round=3, first_position=99, drafts=[pb.Draft(payload=b"?")])).verdict
        assert (stale.round, stale.stale, stale.accepted, list(stale.y_d)) == (3, True, 0, [])
        assert not stale.HasField("token_id")
        assert (stale.cost.forwards, stale.cost.positions) == (0, 0)
        assert [list(held) for held in engine.sessions.values()] == before
        good = stream.ask(upload(engine, round=4, epoch=1, first_position=4, **drafted(least_likely(ids)))).verdict
        assert (good.round, good.stale, good.accepted) == (4, False, 0)
        p = np.exp(ENGINE_LOGITS(ids).astype(float))
        assert good.y_d[0] == pytest.approx((p / p.sum()).min(), rel=1e-5)
        stream.half_close()
        assert stream.refusal()[0] is CODE.OK


class PoisonedEngine(GatedEngine):
    """Raises as soon as a batch holds the poisonous id."""

    POISON = 11

    def __init__(self, error):
        super().__init__(ENGINE_LOGITS, V)
        self._error = error

    def forward(self, work):
        if any(self.POISON in part.new_ids for part in work):
            self.batches.append(len(work))
            raise self._error
        return super().forward(work)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (RuntimeError("out of memory"), CODE.UNKNOWN, "out of memory"),
        (InvalidRequestError("the cache is full"), CODE.INVALID_ARGUMENT, "the cache is full"),
    ],
)
def test_an_engine_that_raises_inside_a_batch_hurts_only_the_guilty_session(error, code, sentence, undisturbed):
    engine = PoisonedEngine(error)
    with beside_a_neighbour(undisturbed, engine) as (station, _, raw):
        first, guilty, innocent = (raw.opened(engine) for _ in range(3))
        engine.gate.clear()
        engine.entered.clear()
        # The first occupies the engine; the other two wait together and become one batch.
        request = {"drafts": [], "generate": 1, "skipped_ids": [1], "first_position": 4}
        first.send(upload(engine, **request))
        assert engine.entered.wait(5)
        innocent.send(upload(engine, **request))
        guilty.send(upload(engine, **(request | {"skipped_ids": [PoisonedEngine.POISON]})))
        assert eventually(lambda: len(station.server._batcher._waiting) == 2)
        engine.gate.set()
        assert_refused(guilty, code, sentence)
        assert 2 in engine.batches
        answers = [stream.receive().verdict.token_id for stream in (first, innocent)]
        assert answers[0] == answers[1]
        for stream in (first, innocent):
            stream.half_close()
            assert stream.refusal()[0] is CODE.OK
