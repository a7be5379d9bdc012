"""TLS and mTLS through the real server and the real client: who gets in, who does not, and what each is told."""

import contextlib

import grpc
import pytest

from certificates import Authority
from fakes import FakeEngine, contextual, vocabulary
from stations import standing
from uihlm_basestation.server import BaseStation
from uihlm_basestation.trust.limits import Limits
from uihlm_basestation.trust.settings import TlsFiles, Trust
from uihlm_device.stream.access import Access
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_proto.codecs import codec
from uihlm_proto.errors import AccessError, ExhaustedError, UnavailableError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

V = 12
ENGINE = contextual(V, salt=1)
CONTRACT = Contract(vocabulary(V), Sampling(), codec("dense32", V))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="module")
def own(authority):
    return authority.issue("127.0.0.1", "localhost")


def asked(address, access):
    """Open one session and close it again."""
    with Connection(str(address), V, timeout_s=10.0, access=access) as connection:
        session = connection.session(CONTRACT)
        session.open([1, 2, 3], session_key(0, 0))
        cost = session.ready()
        session.close()
        return cost


@contextlib.contextmanager
def served(own, client_ca=None):
    with standing(FakeEngine(ENGINE, V), trust=Trust(TlsFiles(own.certificate, own.key, client_ca))) as station:
        yield station.address


def test_a_device_that_believes_the_authority_is_served(authority, own):
    with served(own) as address:
        access = Access(tls=True, authorities=authority.pem)
        assert asked(address, access).positions == 3
        with Connection(str(address), V, access=access) as connection:
            assert len(connection.score(CONTRACT, [1], [2])) == 1


@pytest.mark.parametrize("trusting", ["another authority", "the well-known ones"])
def test_a_base_station_that_cannot_show_who_it_is_gets_nothing(own, stranger, trusting):
    with served(own) as address, pytest.raises(UnavailableError, match="do not agree on TLS; check --tls, --tls-ca"):
        asked(address, Access(tls=True, authorities=stranger.pem if trusting == "another authority" else None))


def test_a_certificate_for_another_name_is_not_believed(authority):
    with (
        served(authority.issue("bs.example")) as address,
        pytest.raises(UnavailableError, match="do not agree on TLS"),
    ):
        asked(address, Access(tls=True, authorities=authority.pem))


def test_a_device_without_tls_is_not_served(own):
    with served(own) as address, pytest.raises(UnavailableError, match="no base station answers at"):
        asked(address, Access())


def test_a_device_that_asks_for_tls_does_not_fall_back(authority):
    with standing(FakeEngine(ENGINE, V)) as station, pytest.raises(UnavailableError):
        asked(station.address, Access(tls=True, authorities=authority.pem))


def test_mtls_serves_devices_of_its_authority_alone(authority, own, stranger):
    known, unknown = authority.issue("device-7"), stranger.issue("device-8")
    with served(own, authority.pem) as address:
        access = Access(True, authority.pem, known.certificate, known.key)
        assert asked(address, access).positions == 3
        for bad in (Access(True, authority.pem), Access(True, authority.pem, unknown.certificate, unknown.key)):
            with pytest.raises(UnavailableError):
                asked(address, bad)


def test_under_mtls_a_peer_is_its_certificate(authority, own):
    """Both come from this machine, whose address alone is nobody's."""
    devices = [authority.issue("device-1"), authority.issue("device-2")]
    trust = Trust(TlsFiles(own.certificate, own.key, authority.pem), limits=Limits(peer_sessions=1))
    with standing(FakeEngine(ENGINE, V), trust=trust) as station, contextlib.ExitStack() as stack:

        def ready(device):
            access = Access(True, authority.pem, device.certificate, device.key)
            connection = stack.enter_context(Connection(str(station.address), V, timeout_s=10.0, access=access))
            session = connection.session(CONTRACT)
            session.open([1], session_key(0, 0))
            session.ready()

        for device in devices:
            ready(device)
        with pytest.raises(ExhaustedError, match="peer certificate device-1 has 1 sessions open"):
            ready(devices[0])


def test_health_needs_the_certificate_too_as_the_handshake_comes_first(authority, own):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with served(own, authority.pem) as address:
        credentials = grpc.ssl_channel_credentials(authority.pem.read_bytes())
        with grpc.secure_channel(str(address), credentials, options=[("grpc.enable_http_proxy", 0)]) as channel:
            with pytest.raises(grpc.RpcError) as raised:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "break_it",
    [
        lambda own, other, tmp: TlsFiles(own.certificate, other.key),
        lambda own, other, tmp: TlsFiles(own.key, own.certificate),
        lambda own, other, tmp: TlsFiles(own.certificate, _written(tmp, "nothing of the kind")),
        lambda own, other, tmp: TlsFiles(_written(tmp, ""), own.key),
        lambda own, other, tmp: TlsFiles(own.certificate, _with_password(own.key, tmp)),
        lambda own, other, tmp: TlsFiles(own.certificate, own.key, own.key),
        lambda own, other, tmp: TlsFiles(own.certificate, own.key, _written(tmp, "ünïcode")),
    ],
    ids=["another key", "mixed up", "no key", "empty", "with a password", "no authority", "no PEM"],
)
def test_files_that_do_not_do_are_named(break_it, own, stranger, tmp_path):
    files = break_it(own, stranger.issue("127.0.0.1"), tmp_path)
    with pytest.raises(AccessError, match=r"no certificate(s)? (and its private key )?in PEM") as raised:
        files.credentials()
    assert own.key.read_text().splitlines()[1] not in str(raised.value)


def _written(folder, text):
    file = folder / "file.pem"
    file.write_text(text, encoding="utf-8")
    return file


def _with_password(key, folder):
    from cryptography.hazmat.primitives import serialization

    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    form, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file = folder / "locked.key"
    file.write_bytes(plain.private_bytes(form, kind, serialization.BestAvailableEncryption(b"password")))
    return file


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "basestation"])
def test_other_machines_are_not_served_without_tls_unless_that_is_said(host):
    with pytest.raises(
        AccessError, match=f"listening on {host} without TLS .* --tls-cert and --tls-key, .* --insecure"
    ):
        Trust().check_host(host)
    Trust(insecure=True).check_host(host)


def test_the_server_itself_refuses_to_listen(own):
    async def listen(trust):
        station = BaseStation(FakeEngine(ENGINE, V), trust=trust)
        try:
            return (await station.start("0.0.0.0")).port
        finally:
            await station.stop(0.0)

    import asyncio

    with pytest.raises(AccessError):
        asyncio.run(listen(Trust()))
    assert asyncio.run(listen(Trust(TlsFiles(own.certificate, own.key)))) > 0
