"""The flags of TLS, tokens and limits: what they add up to, what is refused, and that no secret is ever shown."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from certificates import Authority
from fakes import FakeEngine, contextual, vocabulary
from uihlm_basestation.trust.limits import SERVED, Limits
from uihlm_basestation.trust.settings import TlsFiles, Trust
from uihlm_cli import basestation
from uihlm_cli.station import serve as serve_command
from uihlm_device.stream.access import Access
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_proto.addresses import Address
from uihlm_proto.bearer import Token
from uihlm_proto.codecs import codec
from uihlm_proto.errors import AccessError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

V = 16
SECRET, OTHER = "s3cret-" * 4, "0ther-s3cret-" * 3
WRONG = "wr0ng-t0ken-" * 3


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def own(authority):
    return authority.issue("127.0.0.1")


@pytest.fixture
def tokens(tmp_path):
    file = tmp_path / "tokens.txt"
    file.write_text(f"# devices of the cell\n{SECRET}\n{OTHER}\n")
    file.chmod(0o600)
    return file


class Served:
    """What `uihlm-bs serve` would have served, without loading anything."""

    def __init__(self, monkeypatch):
        self.loaded = 0
        self.trust = None
        monkeypatch.setattr(serve_command, "resolve", lambda model, role: None)
        monkeypatch.setattr(serve_command, "load_engine", self._load)
        monkeypatch.setattr(serve_command, "serve", self._serve)

    def _load(self, source, settings):
        self.loaded += 1
        return FakeEngine(contextual(V, 2), V)

    async def _serve(self, engine, host, port, *rest, trust, **named):
        self.trust = trust

    def run(self, *arguments, **environment):
        return CliRunner(env={"UIHLM_TOKEN": None, **environment}).invoke(basestation.main, ["serve", *arguments])


@pytest.fixture
def served(monkeypatch):
    return Served(monkeypatch)


def test_by_default_loopback_is_served_to_anyone_here_within_limits(served):
    assert served.run().exit_code == 0
    assert served.trust == Trust(limits=SERVED)


def test_the_flags_add_up(served, authority, own, tokens):
    arguments = [
        "--host",
        "0.0.0.0",
        "--tls-cert",
        own.certificate,
        "--tls-key",
        own.key,
        "--tls-client-ca",
        authority.pem,
    ]
    arguments += ["--token-file", tokens, "--session-messages-s", "1", "--session-bytes-s", "2"]
    arguments += ["--peer-messages-s", "3", "--peer-bytes-s", "4", "--peer-sessions", "5"]
    result = served.run(*map(str, arguments))
    assert result.exit_code == 0, result.stderr
    assert served.trust.tls == TlsFiles(own.certificate, own.key, authority.pem)
    assert served.trust.limits == Limits(1, 2, 3, 4, 5)
    assert len(served.trust.tokens) == 2
    assert not served.trust.insecure
    assert "warning" not in result.stderr


def test_every_flag_has_its_variable(served, own, tokens):
    result = served.run(
        UIHLM_SERVE_TLS_CERT=str(own.certificate),
        UIHLM_SERVE_TLS_KEY=str(own.key),
        UIHLM_SERVE_TOKEN_FILE=str(tokens),
        UIHLM_SERVE_PEER_SESSIONS="2",
    )
    assert result.exit_code == 0, result.stderr
    assert (served.trust.tls.key, len(served.trust.tokens), served.trust.limits.peer_sessions) == (own.key, 2, 2)


def test_tokens_come_from_the_variable_where_no_file_is_named(served, tokens):
    assert served.run(UIHLM_TOKEN=SECRET).exit_code == 0
    assert served.trust.tokens.name_of([Token(SECRET).header])
    assert served.run("--token-file", str(tokens), UIHLM_TOKEN=WRONG).exit_code == 0
    with pytest.raises(AccessError):
        served.trust.tokens.name_of([Token(WRONG).header])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "basestation"])
def test_another_host_without_tls_exits_2_with_a_sentence_before_anything_is_loaded(served, host):
    result = served.run("--host", host)
    assert (result.exit_code, result.stdout, served.loaded) == (2, "", 0)
    assert f"listening on {host} without TLS lets everyone on the way read and change" in result.stderr
    assert "--insecure" in result.stderr
    assert served.run("--host", host, "--insecure").exit_code == 0


@pytest.mark.parametrize("flags", [["--tls-cert"], ["--tls-key"], ["--tls-client-ca"]])
def test_half_of_what_tls_needs_exits_2(served, own, flags):
    result = served.run(*flags, str(own.certificate))
    assert (result.exit_code, served.loaded) == (2, 0)
    assert "--tls-cert and --tls-key" in result.stderr


def test_files_that_do_not_do_exit_1_before_anything_is_loaded(served, own, tmp_path):
    junk = tmp_path / "junk"
    junk.write_text("hunter2\n")
    result = served.run("--tls-cert", str(own.certificate), "--tls-key", str(junk))
    assert (result.exit_code, served.loaded) == (1, 0)
    assert "no certificate and its private key in PEM" in result.stderr
    result = served.run("--token-file", str(junk))
    assert (result.exit_code, served.loaded) == (1, 0)
    assert "junk, line 1: a token has 16" in result.stderr and "hunter2" not in result.stderr


def test_a_secret_that_everyone_here_can_read_is_warned_of(served, tokens):
    tokens.chmod(0o644)
    result = served.run("--token-file", str(tokens))
    assert result.exit_code == 0
    assert f"every user of this machine can read {tokens}: chmod 600" in result.stderr


DRIVER = f"""
from fakes import FakeEngine, contextual
from uihlm_cli import basestation
from uihlm_cli.station import serve as serve_command
serve_command.resolve = lambda model, role: None
serve_command.load_engine = lambda source, settings: FakeEngine(contextual({V}, 2), {V})
basestation.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_logged_at_any_level_whoever_calls(form, authority, own, tokens):
    """A process of its own, everything logged, gRPC's core included; good tokens, wrong ones, and none."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        "GRPC_VERBOSITY": "INFO",
        "PYTHONASYNCIODEBUG": "1",
        "UIHLM_TOKEN": WRONG[::-1],
    }
    command = [
        sys.executable,
        "-X",
        "dev",
        "-c",
        DRIVER,
        "serve",
        "--port",
        "0",
        "--log-level",
        "debug",
        "--log-format",
        form,
    ]
    command += ["--token-file", str(tokens), "--tls-cert", str(own.certificate), "--tls-key", str(own.key)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            address = Address("127.0.0.1", int(process.stdout.readline().rpartition(":")[2]))
            contract = Contract(vocabulary(V), Sampling(), codec("dense32", V))
            for secret in (SECRET, OTHER, WRONG):
                access = Access(True, authority.pem, token=Token(secret))
                with Connection(str(address), V, timeout_s=10.0, access=access) as connection:
                    session = connection.session(contract)
                    session.open([1, 2], session_key(0, 0))
                    if secret is WRONG:
                        with pytest.raises(AccessError) as raised:
                            session.ready()
                        assert WRONG not in str(raised.value)
                    else:
                        session.ready()
                    session.close()
            _unheard(address, authority)
            arguments = Path(f"/proc/{process.pid}/cmdline").read_text()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    key = own.key.read_text().splitlines()
    for hidden in (SECRET, OTHER, WRONG, WRONG[::-1], *key[1:-1]):
        assert hidden not in out + err + arguments
    if form == "json":
        assert all(json.loads(line) for line in err.splitlines() if line.startswith("{"))


def _unheard(address, authority):
    """Call without a token, by hand."""
    credentials = grpc.ssl_channel_credentials(authority.pem.read_bytes())
    with grpc.secure_channel(str(address), credentials, options=[("grpc.enable_http_proxy", 0)]) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/uihlm.v1.VerificationService/Score")(b"", timeout=5)
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
