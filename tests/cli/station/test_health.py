"""`uihlm-bs health`: 0 while a base station takes sessions, 4 when it does not or is not there."""

import socket

from click.testing import CliRunner
from grpc_health.v1 import health_pb2

from certificates import Authority
from fakes import FakeEngine, contextual
from stations import standing
from uihlm_basestation.trust.settings import TlsFiles, Trust
from uihlm_cli.basestation import main
from uihlm_proto.bearer import Token
from uihlm_proto.token_set import TokenSet

V = 12


def health(address: object, *more: object) -> tuple[int, str, str]:
    arguments = ["health", "--server", str(address), "--timeout-s", "5", *map(str, more)]
    result = CliRunner().invoke(main, arguments)
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


def test_a_base_station_with_tls_and_tokens_is_asked_over_tls_without_one(tmp_path):
    authority = Authority(tmp_path)
    own, device = authority.issue("127.0.0.1"), authority.issue("device")
    trust = Trust(TlsFiles(own.certificate, own.key), TokenSet([Token("t" * 32)]))
    with standing(FakeEngine(contextual(V, 1), V), trust=trust) as station:
        assert health(station.address, "--tls-ca", authority.pem) == (0, "SERVING\n", "")
        assert health(station.address)[0] == 4
    trust = Trust(TlsFiles(own.certificate, own.key, authority.pem))
    with standing(FakeEngine(contextual(V, 1), V), trust=trust) as station:
        shown = ["--tls-cert", device.certificate, "--tls-key", device.key]
        assert health(station.address, "--tls-ca", authority.pem, *shown) == (0, "SERVING\n", "")
        assert health(station.address, "--tls-ca", authority.pem)[0] == 4
        assert health(station.address, *shown)[0] == health(station.address, *shown[:2])[0] == 2
