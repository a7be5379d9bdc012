"""The served base station: health, shutdown, scores, and devices that vanish."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fakes import Bench, FakeDrafter, FakeEngine, contextual, serving
from stations import GatedEngine, RawClient, Station, eventually, opening, standing, upload
from uihlm_basestation.server import SERVICE, BaseStation
from uihlm_proto.addresses import Address
from uihlm_proto.errors import UnavailableError
from uihlm_proto.v1 import verification_pb2 as pb

V = 12
LOGITS = contextual(V, salt=1)
CODE = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def log_softmax(z):
    z = z.astype(float) - float(z.max())
    return z - np.log(np.exp(z).sum())


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_says_serving_from_start_to_stop(service):
    station = Station(FakeEngine(LOGITS, V), 4)
    address = station.run(station.server.start())
    with RawClient(address) as raw:
        watch = health_pb2_grpc.HealthStub(raw.channel).Watch(
            health_pb2.HealthCheckRequest(service=service), timeout=10
        )
        assert next(watch).status == SERVING
        stopping = station.spawn(station.server.stop(grace_s=5.0))
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        stopping.result(10)
    station.shut()


def test_health_says_not_serving_before_the_port_is_open(monkeypatch):
    told = []
    plain = health.aio.HealthServicer.set

    async def noting(self, service, status):
        told.append((service, status))
        await plain(self, service, status)

    monkeypatch.setattr(health.aio.HealthServicer, "set", noting)

    async def scenario():
        station = BaseStation(FakeEngine(LOGITS, V))
        add_port = station._server.add_insecure_port

        def open_port(address):
            assert told == [("", NOT_SERVING), (SERVICE, NOT_SERVING)]
            return add_port(address)

        monkeypatch.setattr(station._server, "add_insecure_port", open_port)
        await station.start()
        assert told[2:] == [("", SERVING), (SERVICE, SERVING)]
        await station.stop(0.0)
        assert told[4:] == [("", NOT_SERVING), (SERVICE, NOT_SERVING)]

    asyncio.run(scenario())


def test_a_health_check_is_answered_while_the_engine_computes():
    engine = GatedEngine(LOGITS, V)
    with standing(engine) as station, RawClient(station.address) as raw:
        check = health_pb2_grpc.HealthStub(raw.channel).Check
        check(health_pb2.HealthCheckRequest(), timeout=5)  # connect first
        engine.gate.clear()
        stream = raw.stream()
        stream.send(opening(engine))
        assert engine.entered.wait(5)
        taken_s = []
        for _ in range(5):
            started_s = time.perf_counter()
            # The engine is busy until the gate opens: a forward on the event loop would run this into its deadline.
            assert check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=2).status == SERVING
            taken_s.append(time.perf_counter() - started_s)
        assert min(taken_s) < 0.05
        assert not engine.batches
        engine.gate.set()
        assert stream.receive().HasField("ready")


def test_a_taken_port_is_an_error_that_says_so():
    with standing(FakeEngine(LOGITS, V)) as station:

        async def another():
            await BaseStation(FakeEngine(LOGITS, V)).start(port=station.address.port)

        with pytest.raises(UnavailableError, match=f"cannot listen on {station.address}: the port is taken .* --port"):
            asyncio.run(another())


def test_the_address_is_written_as_grpc_reads_it():
    assert str(Address("127.0.0.1", 50)) == "127.0.0.1:50"
    assert str(Address("::1", 50)) == "[::1]:50"


def test_the_local_base_station_gives_its_port_back():
    with serving(FakeEngine(LOGITS, V)) as address:
        socket.create_connection((address.host, address.port), timeout=5).close()
    with pytest.raises(OSError):
        socket.create_connection((address.host, address.port), timeout=5).close()


def test_leaving_the_local_base_station_with_a_session_open_leaves_no_task_behind(caplog, recwarn):
    engine = FakeEngine(LOGITS, V)
    with serving(engine) as address, RawClient(address) as raw:
        stream = raw.opened(engine)
        assert engine.sessions
    code, _ = stream.refusal()
    assert code in (CODE.UNAVAILABLE, CODE.CANCELLED)
    assert [record.getMessage() for record in caplog.records] == []
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []


def score(raw, engine, context_ids, target_ids, **changes):
    fields = {
        "tokenizer_fingerprint": engine.fingerprint,
        "context_ids": context_ids,
        "target_ids": target_ids,
    }
    return raw.stub.Score(pb.ScoreRequest(**(fields | changes)), timeout=10).log_probabilities


@pytest.mark.parametrize(
    ("context", "target"),
    [([1], [5]), ([1, 2, 3], [4, 5, 6, 0]), ([3] * 10, list(range(12)) * 25), ([1, 2], [])],
    ids=["one", "some", "more rows than one forward returns", "none"],
)
def test_scores_are_the_log_probabilities_at_temperature_1(context, target):
    engine = FakeEngine(LOGITS, V)
    with standing(engine) as station, RawClient(station.address) as raw:
        scores = score(raw, engine, context, target)
        ids = [*context, *target]
        expected = [log_softmax(LOGITS(ids[:i]))[ids[i]] for i in range(len(context), len(ids))]
        assert list(scores) == pytest.approx(expected, abs=1e-5)
        assert eventually(lambda: not engine.sessions and station.sessions == 0)


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"tokenizer_fingerprint": bytes(32)}, CODE.FAILED_PRECONDITION, "another tokenizer than the LLM's"),
        ({"context_ids": []}, CODE.INVALID_ARGUMENT, "context_ids is empty"),
        ({"context_ids": [12]}, CODE.INVALID_ARGUMENT, "token id 12 is outside the vocabulary of 12"),
        ({"target_ids": [99]}, CODE.INVALID_ARGUMENT, "token id 99 is outside the vocabulary of 12"),
        ({"target_ids": [1] * 4096}, CODE.INVALID_ARGUMENT, "4097 ids to score, a session here holds 4096"),
    ],
)
def test_a_bad_score_request_is_refused_and_leaves_nothing_behind(changes, code, sentence):
    engine = FakeEngine(LOGITS, V)
    with standing(engine) as station, RawClient(station.address) as raw:
        with pytest.raises(grpc.RpcError) as raised:
            score(raw, engine, **({"context_ids": [1], "target_ids": [2]} | changes))
        assert raised.value.code() is code
        assert sentence in raised.value.details()
        assert eventually(lambda: not engine.sessions and station.sessions == 0)


def test_a_half_close_frees_the_session():
    engine = FakeEngine(LOGITS, V)
    with standing(engine) as station, RawClient(station.address) as raw:
        stream = raw.opened(engine)
        assert (station.sessions, len(engine.sessions)) == (1, 1)
        stream.half_close()
        assert stream.refusal()[0] is CODE.OK
        assert eventually(lambda: not engine.sessions and station.sessions == 0)


@pytest.mark.parametrize("how", ["cancel", "channel closed"])
def test_a_device_that_leaves_during_a_round_frees_its_session(how):
    engine = GatedEngine(LOGITS, V)
    with standing(engine) as station, RawClient(station.address) as raw:
        with RawClient(station.address) as leaving:
            stream = leaving.opened(engine)
            engine.gate.clear()
            engine.entered.clear()
            stream.send(upload(engine, drafts=[], generate=1000, skipped_ids=[1], first_position=4))
            assert engine.entered.wait(5)
            if how == "cancel":
                stream.call.cancel()
            else:
                leaving.channel.close()
            stream.half_close()
        assert eventually(lambda: station.sessions == 0)
        engine.gate.set()
        assert eventually(lambda: not engine.sessions)
        # It had asked for 1000 tokens; nobody goes on computing them.
        assert len(engine.batches) <= 3
        assert raw.opened(engine).call.is_active()


def test_devices_that_leave_between_rounds_free_their_sessions():
    engine = FakeEngine(LOGITS, V)
    with standing(engine) as station:
        for _ in range(20):
            with RawClient(station.address) as leaving:
                stream = leaving.opened(engine)
            stream.half_close()
            assert eventually(lambda: not engine.sessions and station.sessions == 0)


def test_sessions_side_by_side_write_what_they_write_alone():
    """Batched or alone: same seed, same tokens."""
    from concurrent.futures import ThreadPoolExecutor

    def answer(address, index, codec):
        with Bench(address, FakeDrafter(contextual(V, salt=2), V), codec) as bench:
            return [record.token for record in bench.run("hlm", index=index, max_tokens=24)]

    jobs = [(index, codec) for index in range(3) for codec in ("dense32", "coupled")]
    alone = []
    for job in jobs:
        with serving(FakeEngine(LOGITS, V)) as address:
            alone.append(answer(address, *job))
    with serving(FakeEngine(LOGITS, V)) as address, ThreadPoolExecutor(len(jobs)) as pool:
        together = list(pool.map(lambda job: answer(address, *job), jobs))
    assert together == alone


def test_stop_lets_a_round_finish_within_the_grace_and_sends_idle_sessions_away_at_once():
    engine = GatedEngine(LOGITS, V)
    station = Station(engine, 4)
    address = station.run(station.server.start())
    with RawClient(address) as raw:
        stream, idle = raw.opened(engine), raw.opened(engine)
        engine.gate.clear()
        engine.entered.clear()
        stream.send(upload(engine, drafts=[], generate=1, skipped_ids=[1], first_position=4))
        assert engine.entered.wait(5)
        stopping = station.spawn(station.server.stop(grace_s=8.0))
        time.sleep(0.05)
        late = RawClient(address)
        with late, pytest.raises(grpc.RpcError) as refused:
            late.stub.Score(pb.ScoreRequest(), timeout=5)
        assert refused.value.code() is CODE.UNAVAILABLE
        for left in (idle, stream):
            if left is stream:
                engine.gate.set()
                assert stream.receive().verdict.last
            code, sentence = left.refusal()
            assert code is CODE.UNAVAILABLE and "shutting down: connect to another one" in sentence
        stopping.result(3)
    station.shut()
    assert eventually(lambda: engine.sessions == {})


SERVE = """
import asyncio, sys
from fakes import FakeEngine, contextual
from uihlm_basestation.server import serve
print("loaded", flush=True)
asyncio.run(serve(FakeEngine(contextual(12, 1), 12), "127.0.0.1", 0, 4, 5.0, lambda address: print(address, flush=True)))
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_well(number):
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        # A server that ignores the signal must not hold up the tests.
        watchdog = threading.Timer(20.0, process.kill)
        watchdog.start()
        try:
            assert process.stdout.readline() == "loaded\n"
            address = process.stdout.readline().strip()
            engine = FakeEngine(LOGITS, V)
            with RawClient(address) as raw:
                stream = raw.opened(engine)
                process.send_signal(number)
                time.sleep(0.1)
                # Nothing of it is under way: it is sent away, and the grace time is not sat out.
                assert stream.refusal()[0] is CODE.UNAVAILABLE
            assert process.stdout.read() == "stopped\n"
            assert process.wait(10) == 0
        finally:
            watchdog.cancel()
            process.kill()
