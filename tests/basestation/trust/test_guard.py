"""Tokens, rates and seats in front of a live server, beside a neighbour that keeps to them."""

import hmac

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fakes import FakeEngine, contextual
from stations import RawClient, Stream, eventually, opening, standing, upload
from uihlm_basestation.trust import guard
from uihlm_basestation.trust.limits import Limits
from uihlm_basestation.trust.settings import Trust
from uihlm_proto.bearer import Token
from uihlm_proto.token_set import TokenSet
from uihlm_proto.v1 import verification_pb2 as pb

V = 12
CODE = grpc.StatusCode
GOOD, OTHER, BAD = (Token(letter * 32) for letter in "abc")
TOKENS = TokenSet([GOOD, OTHER])


class Caller(RawClient):
    """A raw client that shows metadata."""

    def __init__(self, address, *metadata):
        super().__init__(address)
        plain = self.stub.Verify
        self.stub.Verify = lambda requests, timeout: plain(requests, timeout=timeout, metadata=metadata)
        self.metadata = metadata

    def score(self):
        request = pb.ScoreRequest(tokenizer_fingerprint=engine().fingerprint, context_ids=[1], target_ids=[2])
        return self.stub.Score(request, timeout=5, metadata=self.metadata)


def engine():
    return FakeEngine(contextual(V, salt=1), V)


def refused_opening(caller):
    stream = caller.stream()
    stream.send(opening(engine()))
    return stream.refusal()


@pytest.mark.parametrize("token", [GOOD, OTHER])
def test_any_of_the_tokens_opens_a_session_and_a_score(token):
    with standing(engine(), trust=Trust(tokens=TOKENS)) as station, Caller(station.address, token.header) as caller:
        stream = caller.opened(engine())
        assert stream.ask(upload(engine())).HasField("verdict")
        assert len(caller.score().log_probabilities) == 1


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ((), "asks for a bearer token: give it with --token-file, or in the variable UIHLM_TOKEN"),
        ((BAD.header,), "does not know the bearer token"),
        ((("authorization", GOOD.secret),), "asks for a bearer token"),
        ((("authorization", f"Basic {GOOD.secret}"),), "asks for a bearer token"),
        ((("authorization", f"Bearer {GOOD.secret[:-1]}"),), "does not know the bearer token"),
        ((("authorization", f"Bearer {GOOD.secret}a"),), "does not know the bearer token"),
        ((("authorization", "Bearer "),), "does not know the bearer token"),
        ((GOOD.header, BAD.header), "asks for a bearer token"),
    ],
    ids=["none", "another", "no scheme", "another scheme", "shorter", "longer", "empty", "two"],
)
def test_whoever_has_no_token_gets_no_session_no_score_and_no_word_of_it(metadata, sentence):
    served = engine()
    with standing(served, trust=Trust(tokens=TOKENS)) as station, Caller(station.address, *metadata) as caller:
        code, details = refused_opening(caller)
        assert (code, sentence in details) == (CODE.UNAUTHENTICATED, True), details
        with pytest.raises(grpc.RpcError) as raised:
            caller.score()
        assert raised.value.code() is CODE.UNAUTHENTICATED
        assert station.sessions == 0 and served.log == []
        assert not any(token.secret[:8] in details + raised.value.details() for token in (GOOD, OTHER, BAD))


def test_what_a_stranger_says_is_not_even_parsed():
    with standing(engine(), trust=Trust(tokens=TOKENS)) as station, RawClient(station.address) as raw:
        verify = raw.channel.stream_stream("/uihlm.v1.VerificationService/Verify")
        call = verify(iter([b"\xff\xff\xff"]), timeout=5)
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() is CODE.UNAUTHENTICATED


def test_bytes_that_are_no_message_are_refused_as_such():
    with standing(engine()) as station, RawClient(station.address) as raw:
        call = raw.channel.stream_stream("/uihlm.v1.VerificationService/Verify")(iter([b"\xff\xff\xff"]), timeout=5)
        with pytest.raises(grpc.RpcError):
            next(call)
        assert (call.code(), call.details()) == (CODE.INVALID_ARGUMENT, "these 3 bytes are no message of this service")
        with pytest.raises(grpc.RpcError) as raised:
            raw.channel.unary_unary("/uihlm.v1.VerificationService/Score")(b"\xff", timeout=5)
        assert raised.value.code() is CODE.INVALID_ARGUMENT


def test_tokens_are_compared_in_constant_time_all_of_them_each_time(monkeypatch):
    compared = []
    plain = hmac.compare_digest

    def counting(a, b):
        compared.append((a, b))
        return plain(a, b)

    monkeypatch.setattr("uihlm_proto.token_set.hmac.compare_digest", counting)
    names = {TOKENS.name_of([token.header]) for token in (GOOD, OTHER)}
    assert len(compared) == 4, "the first that fits must not end the search"
    assert all(len(a) == len(b) == 32 for a, b in compared)
    assert len(names) == 2 and not any(token.secret[:4] in name for token in (GOOD, OTHER) for name in names)
    assert not any(token.secret in repr(vars(TOKENS)) for token in (GOOD, OTHER))


def test_health_is_open_to_all_and_reflection_is_not():
    with standing(engine(), reflection=True, trust=Trust(tokens=TOKENS)) as station, RawClient(station.address) as raw:
        check = health_pb2_grpc.HealthStub(raw.channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        reflect = reflection_pb2_grpc.ServerReflectionStub(raw.channel).ServerReflectionInfo
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as raised:
            next(reflect(iter([request]), timeout=5))
        assert raised.value.code() is CODE.UNAUTHENTICATED
        assert next(reflect(iter([request]), timeout=5, metadata=(GOOD.header,))).HasField("list_services_response")


def test_a_session_that_sends_too_many_messages_is_ended_and_its_neighbour_goes_on():
    limits = Limits(session_messages_s=5.0)
    with standing(engine(), trust=Trust(limits=limits)) as station, RawClient(station.address) as raw:
        neighbour, greedy = raw.opened(engine()), raw.opened(engine())
        greedy.send(*(upload(engine(), round=n, epoch=9) for n in range(30)))
        code, details = greedy.refusal()
        assert code is CODE.INVALID_ARGUMENT, "an epoch ahead is refused first"
        greedy = raw.opened(engine())
        greedy.send(*(generating(3 + n) for n in range(30)))
        code, details = greedy.refusal()
        assert code is CODE.RESOURCE_EXHAUSTED
        assert (
            details
            == "this session sends more than 5 messages/s: send less, or serve with a larger --session-messages-s"
        )
        assert neighbour.ask(upload(engine())).HasField("verdict")
        assert eventually(lambda: station.sessions == 1)


def generating(position):
    return pb.VerifyRequest(upload=pb.Upload(round=position, first_position=position, generate=1))


def test_a_session_that_sends_too_many_bytes_is_ended():
    with (
        standing(engine(), trust=Trust(limits=Limits(session_bytes_s=500.0))) as station,
        RawClient(station.address) as raw,
    ):
        stream = raw.opened(engine())
        stream.send(
            *(
                upload(engine(), first_position=203 + 201 * n, skipped_ids=[1] * 200, drafts=[], generate=1)
                for n in range(9)
            )
        )
        code, details = stream.refusal()
        assert code is not CODE.OK and "--session-bytes-s" in details, (code, details)


def test_a_peer_has_its_seats_another_peer_its_own_and_a_score_takes_one():
    trust = Trust(tokens=TOKENS, limits=Limits(peer_sessions=2))
    with (
        standing(engine(), trust=trust) as station,
        Caller(station.address, GOOD.header) as greedy,
        Caller(station.address, OTHER.header) as other,
    ):
        first, second = greedy.opened(engine()), greedy.opened(engine())
        code, details = refused_opening(greedy)
        assert code is CODE.RESOURCE_EXHAUSTED
        assert "has 2 sessions open, as many as it may" in details and GOOD.secret not in details
        with pytest.raises(grpc.RpcError) as raised:
            greedy.score()
        assert raised.value.code() is CODE.RESOURCE_EXHAUSTED
        assert other.opened(engine()).ask(upload(engine())).HasField("verdict")
        assert station.sessions == 3
        first.half_close()
        assert first.refusal()[0] is CODE.OK
        # As soon as the end of one is known, its seat is free: no second try.
        assert len(greedy.score().log_probabilities) == 1
        assert greedy.opened(engine()).ask(upload(engine())).HasField("verdict")
        assert second.ask(upload(engine())).HasField("verdict")


def test_a_peer_cannot_get_round_its_rate_with_more_sessions():
    trust = Trust(tokens=TOKENS, limits=Limits(peer_messages_s=2.0))
    with (
        standing(engine(), trust=trust) as station,
        Caller(station.address, GOOD.header) as greedy,
        Caller(station.address, OTHER.header) as other,
    ):
        for _ in range(4):
            stream = greedy.opened(engine())
            stream.half_close()
        code, details = refused_opening(greedy)
        assert code is CODE.RESOURCE_EXHAUSTED
        assert "sends more than 2 messages/s" in details and "--peer-messages-s" in details
        assert other.opened(engine()).call.is_active()


def test_a_stream_that_says_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(guard, "FIRST_MESSAGE_S", 0.2)
    with standing(engine()) as station, RawClient(station.address) as raw:
        code, details = Stream(raw.stub).refusal()
        assert (code, details) == (
            CODE.RESOURCE_EXHAUSTED,
            "this stream has said nothing for 0.2 s: open it when there is something to say",
        )
        # The clock is for the first message alone.
        stream = raw.opened(engine())
        import time

        time.sleep(0.4)
        assert stream.ask(upload(engine())).HasField("verdict")
        assert station.sessions == 1


def test_a_stranger_that_says_nothing_is_not_told_that_all_is_well():
    with standing(engine(), trust=Trust(tokens=TOKENS)) as station, RawClient(station.address) as raw:
        stream = raw.stream()
        stream.half_close()
        assert stream.refusal()[0] is CODE.UNAUTHENTICATED
