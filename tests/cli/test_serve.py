"""`uihlm-bs serve`: what it says, to whom, and how it ends. The server is real; the LLM is a fake."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fakes import Bench, FakeDrafter, FakeEngine, contextual
from uihlm_basestation.engines.loading import EngineSettings
from uihlm_basestation.server import SERVICE
from uihlm_basestation.serving import Serving
from uihlm_cli import basestation
from uihlm_cli.station import serve as serve_command
from uihlm_device.conversation import Conversation
from uihlm_models.errors import ModelError
from uihlm_models.presets import Role
from uihlm_proto.addresses import Address
from uihlm_proto.errors import UnavailableError
from uihlm_proto.randomness import session_key

V = 16
PATIENCE_S = 30.0
# A process of its own, as signals and exit codes are a process's; only the weights are replaced.
DRIVER = f"""
from fakes import FakeEngine, contextual
from uihlm_cli import basestation
from uihlm_cli.station import serve as serve_command
serve_command.resolve = lambda model, role: None
serve_command.load_engine = lambda source, settings: FakeEngine(contextual({V}, 2), {V})
basestation.main()
"""
READY = re.compile(r"ready: fake on 127\.0\.0\.1:(\d+)\n")


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    """Run `uihlm-bs serve --port 0` and yield the process and its address once it is ready."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", DRIVER, "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        ready = READY.fullmatch(line)
        assert ready, (line, process.stderr.read())
        yield process, Address("127.0.0.1", int(ready[1]))
    finally:
        process.kill()
        process.communicate()


def device(address: Address) -> Bench:
    return Bench(address, FakeDrafter(contextual(V, 1), V))


def health(address: Address, service: str) -> str:
    with grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)]) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_S)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_from_its_ready_line_until_the_signal(number):
    with serving() as (process, address):
        assert [health(address, name) for name in ("", SERVICE)] == ["SERVING", "SERVING"]
        with device(address) as bench:
            records = bench.run("hlm", max_tokens=6)
        assert [record.origin.value in ("accepted", "resampled") for record in records] == [True] * 6
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert out == "", "the ready line is all that stdout gets"
    assert err == "loading bundled …\nstopped\n"


def test_idle_session_is_sent_away_and_the_grace_time_is_not_sat_out():
    with serving("--grace-s", "20") as (process, address), device(address) as bench:
        conversation = Conversation(session_key(0, 0))
        conversation.extend([1, 2, 3])
        answer = bench.decoder("hlm", max_tokens=4).answer(conversation)
        next(answer)
        started_s = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - started_s < 15.0
        with pytest.raises(UnavailableError, match="shutting down: connect to another one, or again later"):
            list(answer)
        conversation.end_session()


def test_round_that_does_not_end_is_cut_off_after_the_grace_time():
    with serving("--grace-s", "0.5") as (process, address), device(address) as bench:
        conversation = Conversation(session_key(0, 0))
        conversation.extend([1, 2, 3])
        # One round of thousands of forwards.
        answer = bench.decoder("llm", max_tokens=4000).answer(conversation)
        next(answer)
        started_s = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - started_s > 0.4
        with pytest.raises(UnavailableError):
            list(answer)
        conversation.end_session()


class Loading:
    """What the command asked for when it loaded the LLM."""

    def __init__(self) -> None:
        self.resolved: list[tuple[str, Role]] = []
        self.settings: list[EngineSettings] = []

    def resolve(self, model: str, role: Role) -> SimpleNamespace:
        self.resolved.append((model, role))
        return SimpleNamespace()

    def load(self, source: object, settings: EngineSettings) -> FakeEngine:
        self.settings.append(settings)
        return FakeEngine(contextual(V, 2), V)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Loading:
    loading = Loading()
    monkeypatch.setattr(serve_command, "resolve", loading.resolve)
    monkeypatch.setattr(serve_command, "load_engine", loading.load)
    return loading


def test_taken_port_exits_4_with_a_sentence(loading):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(basestation.main, ["serve", "--port", str(port)])
    assert (result.exit_code, result.stdout) == (4, "")
    sentence = f"cannot listen on 127.0.0.1:{port}: the port is taken or not allowed; choose another with --port"
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_flags_reach_the_engine_and_the_server(loading, monkeypatch):
    served, sharing = [], []

    async def serve(engine, host, port, max_sessions, grace_s, on_ready, *rest, **more):
        served.append((host, port, max_sessions, grace_s))
        sharing.append(more["serving"])
        on_ready(Address(host, port))

    monkeypatch.setattr(serve_command, "serve", serve)
    arguments = ["serve", "--model", "m.gguf", "--host", "::1", "--port", "7", "--max-sessions", "3", "--grace-s", "2"]
    arguments += ["--max-context", "99", "--backend", "torch", "--threads", "5", "--gpu-layers", "6"]
    arguments += ["--dtype", "float16", "--device-map", "cpu", "--load-in-4bit", "--kv-memory", "2MiB"]
    arguments += ["--prefill-chunk", "32", "--idle-timeout", "60"]
    result = CliRunner().invoke(basestation.main, arguments)
    assert (result.exit_code, result.stdout) == (0, "ready: fake on [::1]:7\n")
    assert served == [("::1", 7, 3, 2.0)]
    assert loading.resolved == [("m.gguf", Role.TARGET)]
    assert loading.settings == [EngineSettings("torch", 3, 99, 5, 6, "float16", "cpu", True, 2 * 2**20)]
    assert sharing == [Serving(chunk=32, idle_s=60.0)]
    CliRunner(env={"UIHLM_SERVE_PORT": "8", "UIHLM_SERVE_MAX_SESSIONS": "4"}).invoke(basestation.main, ["serve"])
    assert served[1] == ("127.0.0.1", 8, 4, 10.0)


def test_weights_that_are_not_there_exit_1_with_a_sentence(monkeypatch):
    def resolve(model: str, role: Role) -> None:
        raise ModelError(f"no model {model!r}")

    monkeypatch.setattr(serve_command, "resolve", resolve)
    result = CliRunner().invoke(basestation.main, ["serve", "--model", "nowhere"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: no model 'nowhere'" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--port", "65536"], ["--max-sessions", "0"], ["--dtype", "int8"], ["--grace-s", "-1"], ["extra"]]
)
def test_usage_errors_exit_2(loading, arguments):
    assert CliRunner().invoke(basestation.main, ["serve", *arguments]).exit_code == 2
    assert loading.settings == []


def test_measured_weights_reach_the_engine_by_their_name(loading, monkeypatch):
    async def serve(*arguments, **more):
        """Serve nothing."""

    monkeypatch.setattr(serve_command, "serve", serve)
    monkeypatch.setattr(serve_command, "measured_type", lambda source, settings: "float16")
    assert CliRunner().invoke(basestation.main, ["serve", "--dtype", "measured"]).exit_code == 0
    assert [settings.weight_type for settings in loading.settings] == ["float16"]
