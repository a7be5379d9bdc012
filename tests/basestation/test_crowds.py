"""A base station that is full, draining, or shares a forward with a session that spoils it."""

import asyncio
import time

import grpc
import pytest

from fakes import FakeEngine
from neighbours import CODE, ENGINE_LOGITS, V, assert_refused, beside_a_neighbour, undisturbed_tokens
from stations import GatedEngine, eventually, opening, upload
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.servicer import VerificationServicer
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc


@pytest.fixture(scope="module")
def undisturbed():
    return undisturbed_tokens()


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
            # A session may end a moment after its stream.
            async with asyncio.timeout(5.0):
                while engine.sessions or servicer.sessions:
                    await asyncio.sleep(0.005)
        await server.stop(0)
        await batcher.close()

    asyncio.run(scenario())


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
