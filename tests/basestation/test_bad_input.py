"""Bad input is refused with the right status and a sentence that helps, and never disturbs another session.

Every case runs through the real server over loopback beside a neighbour that is in the middle of an answer.
"""

import math

import grpc
import pytest

from neighbours import CODE, assert_refused, beside_a_neighbour, undisturbed_tokens
from stations import opening, upload
from uihlm_proto.v1 import verification_pb2 as pb


@pytest.fixture(scope="module")
def undisturbed():
    return undisturbed_tokens()


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
    "stop id": ({"stop_ids": [1, 12]}, CODE.INVALID_ARGUMENT, "token id 12 is outside the vocabulary of 12"),
    "stop ids without end": ({"stop_ids": [1] * 257}, CODE.INVALID_ARGUMENT, "257 stop_ids: at most 256"),
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


def test_many_bad_sessions_leave_nothing_behind(undisturbed):
    with beside_a_neighbour(undisturbed, max_sessions=3) as (_, engine, raw):
        for _ in range(10):
            stream = raw.stream()
            stream.send(opening(engine), upload(engine, first_position=7))
            assert_refused(stream, CODE.INVALID_ARGUMENT, "out of step")
