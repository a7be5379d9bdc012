"""Health checks at a port of their own: no certificate asked for, and no answer but that of a loop that turns."""

import asyncio
import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates import Authority
from fakes import FakeEngine, contextual
from stations import Station, standing
from uihlm_basestation.observing import health
from uihlm_basestation.observing.health import HealthPort
from uihlm_basestation.server import SERVICE
from uihlm_basestation.trust.settings import TlsFiles, Trust
from uihlm_proto.errors import UnavailableError

V = 12
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def port() -> Iterator[HealthPort]:
    port = HealthPort("127.0.0.1", 0)
    yield port
    port.close()


@pytest.fixture
def stub(port: HealthPort) -> Iterator[health_pb2_grpc.HealthStub]:
    with grpc.insecure_channel(str(port.address), [("grpc.enable_http_proxy", 0)]) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def engine() -> FakeEngine:
    return FakeEngine(contextual(V, 1), V)


def status(stub: health_pb2_grpc.HealthStub, service: str = "") -> int:
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status)


def test_it_says_what_the_base_station_says(port, stub):
    assert status(stub) == NOT_SERVING
    station = Station(engine(), 2, health_port=port)
    assert status(stub) == NOT_SERVING
    station.run(station.server.start())
    assert status(stub) == status(stub, SERVICE) == SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10)
    assert next(watch).status == SERVING
    station.run(station.server.stop(0.0))
    assert next(watch).status == NOT_SERVING
    watch.cancel()
    assert status(stub) == status(stub, SERVICE) == NOT_SERVING
    station.shut()
    assert status(stub) == NOT_SERVING


def test_a_service_it_does_not_know_is_not_found(stub):
    with pytest.raises(grpc.RpcError) as raised:
        status(stub, "another")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_loop_that_hangs_or_is_gone_is_not_serving(port, stub, monkeypatch):
    monkeypatch.setattr(health, "_STUCK_S", 0.2)
    goes_on = threading.Event()
    with standing(engine(), health_port=port) as station:
        assert status(stub) == SERVING
        station._loop.call_soon_threadsafe(goes_on.wait, 20)
        try:
            assert status(stub) == NOT_SERVING
        finally:
            goes_on.set()
        assert status(stub) == SERVING

    async def leave_without_a_word():
        port.set("", SERVING)

    asyncio.run(leave_without_a_word())
    assert status(stub) == NOT_SERVING


def test_a_check_waits_for_a_turn_of_the_loop_and_no_longer(port, stub):
    with standing(engine(), health_port=port) as station:
        assert status(stub) == SERVING
        busy_s = 0.3
        station._loop.call_soon_threadsafe(time.sleep, busy_s)
        began_s = time.perf_counter()
        assert status(stub) == SERVING
        assert 0.5 * busy_s < time.perf_counter() - began_s < health._STUCK_S


def test_it_takes_no_certificate_where_the_devices_must_show_theirs(port, stub, tmp_path):
    authority = Authority(tmp_path)
    own = authority.issue("127.0.0.1")
    trust = Trust(TlsFiles(own.certificate, own.key, authority.pem))
    with standing(engine(), trust=trust, health_port=port):
        assert status(stub) == SERVING


def test_a_taken_port_is_an_error_that_says_so(port):
    with pytest.raises(UnavailableError, match=f"health checks on {port.address}: .* --health-port"):
        HealthPort("127.0.0.1", port.address.port)
