"""`uihlm-bs health`: 0 while a base station takes sessions, 4 when it does not or is not there."""

import socket

from click.testing import CliRunner
from grpc_health.v1 import health_pb2

from fakes import FakeEngine, contextual
from stations import standing
from uihlm_cli.basestation import main

V = 12


def health(address: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["health", "--server", str(address), "--timeout-s", "5"])
    return result.exit_code, result.stdout, result.stderr


def test_a_served_base_station_is_serving():
    with standing(FakeEngine(contextual(V, 1), V)) as station:
        assert health(station.address) == (0, "SERVING\n", "")


def test_one_that_loads_or_drains_is_not():
    with standing(FakeEngine(contextual(V, 1), V)) as station:
        station.run(station.server._set_health(health_pb2.HealthCheckResponse.NOT_SERVING))
        code, out, err = health(station.address)
    assert (code, out) == (4, "") and f"{station.address} is NOT_SERVING" in err


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        code, out, err = health(f"127.0.0.1:{free.getsockname()[1]}")
    assert (code, out) == (4, "") and "no base station answers" in err and "UNAVAILABLE" in err
