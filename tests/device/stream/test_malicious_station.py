"""A base station that lies: whatever it answers, the device ends the answer with an error it knows, soon, and holds no more."""

import asyncio
import contextlib
import math
import threading
import time

import grpc
import pytest

from fakes import Bench, FakeDrafter, contextual
from uihlm_proto.errors import ExhaustedError, ProtocolError, UihlmError, UnavailableError
from uihlm_proto.limits import max_response_bytes
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

V = 12


class Liar(pb_grpc.VerificationServiceServicer):
    """Answers an Open as it should be, and an Upload as it likes."""

    def __init__(self, answers):
        self._answers = answers
        self.sent = 0

    async def Verify(self, request_iterator, context):
        async for request in request_iterator:
            if request.HasField("open"):
                yield pb.VerifyResponse(ready=pb.Ready(round=request.open.round, max_context=4096))
                continue
            for answer in self._answers(request.upload):
                if answer is None:
                    await asyncio.sleep(60)
                    return
                self.sent += 1
                yield answer


@contextlib.contextmanager
def lying(answers):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start():
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
        pb_grpc.add_VerificationServiceServicer_to_server(liar, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    liar = Liar(answers)
    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield liar, f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def verdict(upload, **fields):
    return pb.VerifyResponse(verdict=pb.Verdict(round=upload.round, **fields))


def good(upload, **fields):
    return verdict(upload, accepted=len(upload.drafts), y_d=[0.5] * len(upload.drafts), **fields)


def costing(**cost):
    return lambda upload: [good(upload, cost=pb.Cost(**cost))]


LIES = {
    "more accepted than asked": lambda upload: [verdict(upload, accepted=7)],
    "neither accepted nor replaced": lambda upload: [verdict(upload, accepted=0)],
    "a bonus for a single draft": lambda upload: [good(upload, token_id=1)],
    "stale where nothing was": lambda upload: [verdict(upload, stale=True)],
    "a token outside the vocabulary": lambda upload: [verdict(upload, token_id=V)],
    "a token of 32 bits": lambda upload: [verdict(upload, token_id=2**32 - 1)],
    "a probability of NaN": lambda upload: [verdict(upload, token_id=1, y_d=[math.nan])],
    "a probability above 1": lambda upload: [verdict(upload, token_id=1, y_d=[0.1], total_variation=[7.0])],
    "a negative probability": lambda upload: [verdict(upload, token_id=1, y_d=[0.1], reject_probability=[-1.0])],
    "seconds that are none": costing(forward_s=math.nan),
    "seconds without end": costing(forward_s=math.inf),
    "negative seconds": costing(queue_s=-1.0),
    "joules that are none": costing(energy_j=math.nan),
    "joules without end": costing(energy_j=math.inf),
    "negative joules": costing(energy_j=-0.5),
    "tokens besides the one asked for": lambda upload: [good(upload, written_ids=[1], token_id=1)],
    "another round": lambda upload: [pb.VerifyResponse(verdict=pb.Verdict(round=upload.round + 9, token_id=1))],
    "ready again": lambda upload: [pb.VerifyResponse(ready=pb.Ready(round=upload.round))],
    "nothing said": lambda upload: [pb.VerifyResponse()],
}


def written(address, policy="hlm", codec="dense32", timeout_s=10.0, **decode):
    with Bench(address, FakeDrafter(contextual(V, 2), V), codec, timeout_s=timeout_s) as bench:
        return bench.run(policy, max_tokens=16, **decode)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_the_answer_with_an_error_that_is_known(lie):
    with lying(LIES[lie]) as (_, address):
        started_s = time.perf_counter()
        with pytest.raises(ProtocolError, match="base station"):
            written(address)
        assert time.perf_counter() - started_s < 5.0


@pytest.mark.parametrize("path", [[5], [0, 0], [1, 0], [2**32 - 1]])
def test_a_path_that_is_not_in_the_tree_is_refused(path):
    with (
        lying(lambda upload: [verdict(upload, path=path, accepted=len(path), token_id=1)]) as (_, address),
        pytest.raises(ProtocolError, match=r"tree of . drafts makes no sense"),
    ):
        written(address, codec="coupled", tree=3)


def test_a_base_station_that_answers_without_end_is_hung_up_on():
    """One round of one draft, answered ten thousand times over."""
    with lying(lambda upload: [good(upload)] * 10_000) as (liar, address):
        with Bench(address, FakeDrafter(contextual(V, 2), V), timeout_s=10.0) as bench, pytest.raises(UihlmError):
            bench.run("hlm", max_tokens=4000)
        time.sleep(0.2)
        assert liar.sent < 10_000


def test_a_base_station_that_writes_more_than_it_was_asked_to_is_hung_up_on():
    with lying(lambda upload: (verdict(upload, token_id=1) for _ in range(10_000))) as (liar, address):
        with pytest.raises(ProtocolError, match=r"more on round . than it was asked for"):
            written(address, "llm")
        time.sleep(0.2)
        assert liar.sent < 10_000


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        # 16 are asked for.
        ({"written_ids": [1] * 16, "token_id": 1}, "more on round . than it was asked for"),
        ({"written_ids": [1, V], "token_id": 1}, f"sent token {V}, the vocabulary has {V}"),
        ({"written_ids": [2**32 - 1], "token_id": 1}, "the vocabulary has"),
        ({"written_ids": [1]}, "tokens before one that it did not send"),
    ],
)
def test_tokens_that_come_together_are_looked_at_each(fields, why):
    with (
        lying(lambda upload: [verdict(upload, last=True, **fields)]) as (_, address),
        pytest.raises(ProtocolError, match=why),
    ):
        written(address, "llm", stream_interval=8)


def test_a_message_larger_than_any_true_one_is_not_taken():
    too_long = [0.5] * (max_response_bytes(131_072) // 4 + 1000)
    with (
        lying(lambda upload: [verdict(upload, token_id=1, y_d=too_long)]) as (_, address),
        pytest.raises(ExhaustedError, match="larger than max"),
    ):
        written(address)


def test_a_base_station_that_says_nothing_is_not_waited_for_without_end():
    with lying(lambda upload: [None]) as (_, address):
        started_s = time.perf_counter()
        with pytest.raises(UnavailableError):
            written(address, timeout_s=0.5)
        assert time.perf_counter() - started_s < 5.0
