"""Ten thousand devices come and go: memory stays where it was, places are counted, silence ends, refusals have a term."""

import asyncio
import gc
import time
import tracemalloc
from collections import deque

import grpc
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, fixed
from spilling import SpillingEngine
from stations import RawClient, eventually, opening, standing, upload
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.departures import Departures
from uihlm_basestation.server import BaseStation
from uihlm_basestation.servicer import VerificationServicer
from uihlm_basestation.serving import Serving
from uihlm_device.stream import statuses
from uihlm_proto.errors import ExhaustedError
from uihlm_proto.metadata import RETRY_AFTER
from uihlm_proto.v1 import verification_pb2 as pb

V = 8
SESSIONS = 10_000


class Forgetful(SpillingEngine):
    """Keeps no diary, as a real engine does not."""

    def __init__(self, caches):
        super().__init__(fixed([1 / V] * V), V, caches)
        self.log = deque(maxlen=1)
        self.batches = deque(maxlen=1)
        self.forwards = deque(maxlen=1)


async def lives(servicer, engine, count):
    """Let sessions open, ask twice and end; every other one ends in the middle of things."""

    async def requests():
        yield opening(engine)
        yield upload(engine)
        yield upload(engine, round=3, first_position=4, epoch=1)

    for number in range(count):
        stream = servicer.Verify(requests(), None)
        async for _ in stream:
            if number % 2:
                break
        await stream.aclose()


def test_memory_is_flat_over_ten_thousand_sessions():
    async def scenario():
        engine = Forgetful(caches=3)
        batcher = Batcher(engine)
        servicer = VerificationServicer(engine, batcher, max_sessions=16, idle_s=60.0)
        held = []
        tracemalloc.start()
        try:
            for count in (1000, SESSIONS - 2000, 1000):
                await asyncio.gather(*(lives(servicer, engine, count // 4) for _ in range(4)))
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        assert servicer.sessions == 0
        await batcher.close()
        assert engine.cached_sessions == set() and engine.sessions == {}
        return held

    held = asyncio.run(scenario())
    # What a set or a dictionary keeps of one session takes some fifty bytes; four are tables that grew while many stood.
    assert held[-1] - held[0] < 4 * SESSIONS, held


def test_one_more_than_there_is_room_for_is_told_when_to_come_back():
    engine = FakeEngine(contextual(V, 1), V)
    with standing(engine, max_sessions=1) as station, RawClient(station.address) as client:
        first = client.opened(engine)
        second = client.stream()
        second.send(opening(engine))
        code, details = second.refusal()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "all 1 sessions are taken" in details
        hints = dict(second.call.trailing_metadata())
        assert 1.0 <= float(hints[RETRY_AFTER]) <= 60.0
        assert f"in about {hints[RETRY_AFTER]} s" in details
        first.half_close()
        assert eventually(lambda: station.sessions == 0)
        client.opened(engine).half_close()


def test_the_device_knows_when_to_come_back():
    engine = FakeEngine(contextual(V, 1), V)
    with standing(engine, max_sessions=1) as station, RawClient(station.address) as client:
        first = client.opened(engine)
        with Bench(station.address, FakeDrafter(contextual(V, 2), V)) as bench, pytest.raises(ExhaustedError) as caught:
            bench.run("hlm", max_tokens=2)
        first.half_close()
    assert caught.value.retry_after_s == 5.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("2.5", 2.5), ("soon", None), ("-1", None), ("nan", None), ("1e9", None)]
)
def test_a_hint_that_cannot_be_believed_is_none(text, seconds):
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata((RETRY_AFTER, text)), "full"
    )
    assert statuses.domain_error(error, "host:1").retry_after_s == seconds


def test_the_device_repeats_why_its_session_was_closed():
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "nothing was heard for 9 s, so …"
    )
    assert str(statuses.domain_error(error, "host:1")) == "nothing was heard for 9 s, so …"


def test_the_hint_is_the_mean_time_between_departures():
    now = [0.0]
    departures = Departures(lambda: now[0])
    assert departures.retry_after_s() == 5.0
    for second in (0.0, 10.0, 20.0):
        now[0] = second
        departures.note()
    now[0] = 30.0
    assert departures.retry_after_s() == 10.0
    now[0] = 3000.0
    assert departures.retry_after_s() == 60.0


async def heard(settings, pauses_s):
    """Open a session and pause between its uploads; return its verdicts, and the status it ended with."""
    engine = FakeEngine(contextual(V, 1), V)
    station = BaseStation(engine, 2, serving=settings)
    address = await station.start()
    verdicts = 0
    async with grpc.aio.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.stream_stream(
            "/uihlm.v1.VerificationService/Verify",
            request_serializer=pb.VerifyRequest.SerializeToString,
            response_deserializer=pb.VerifyResponse.FromString,
        )()
        await call.write(opening(engine))
        await call.read()
        for turn, pause_s in enumerate(pauses_s):
            await asyncio.sleep(pause_s)
            if call.done():
                break
            await call.write(upload(engine, first_position=3 + turn, generate=1, drafts=[]))
            verdicts += await call.read() is not grpc.aio.EOF
        await call.done_writing()
        code = await call.code()
    sessions = station.sessions
    await station.stop(0.0)
    return verdicts, code, await call.details(), sessions


def test_a_silent_session_makes_room_and_says_so():
    started_s = time.monotonic()
    verdicts, code, details, sessions = asyncio.run(heard(Serving(idle_s=0.2), [0.0, 0.0, 0.8]))
    assert verdicts == 2 and code is grpc.StatusCode.UNAVAILABLE
    assert "nothing was heard for 0.2 s" in details and sessions == 0
    assert time.monotonic() - started_s < 10.0


def test_a_session_that_speaks_now_and_then_stays():
    verdicts, code, _, _ = asyncio.run(heard(Serving(idle_s=0.5), [0.2] * 6))
    assert verdicts == 6 and code is grpc.StatusCode.OK


def test_waiting_for_the_engine_is_no_silence():
    """The device is not to blame for a slow base station."""

    class Slow(FakeEngine):
        def forward(self, work):
            time.sleep(0.4)
            return super().forward(work)

    async def scenario():
        engine = Slow(contextual(V, 1), V)
        station = BaseStation(engine, 2, serving=Serving(idle_s=0.2))
        address = await station.start()
        async with grpc.aio.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.stream_stream(
                "/uihlm.v1.VerificationService/Verify",
                request_serializer=pb.VerifyRequest.SerializeToString,
                response_deserializer=pb.VerifyResponse.FromString,
            )()
            await call.write(opening(engine))
            ready = await call.read()
            await call.done_writing()
            code = await call.code()
        await station.stop(0.0)
        return ready.WhichOneof("message"), code

    assert asyncio.run(scenario()) == ("ready", grpc.StatusCode.OK)
