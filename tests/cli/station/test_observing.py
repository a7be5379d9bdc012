"""The flags of `uihlm-bs serve` that let it be seen from outside, and what is there without them."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2

from fakes import FakeEngine, contextual
from uihlm_basestation.observing.telemetry import Ending, Round, RoundKind
from uihlm_cli import basestation
from uihlm_cli.station import serve as serve_command
from uihlm_cli.station.health import status_of
from uihlm_device.stream.access import Access
from uihlm_proto.addresses import Address
from uihlm_proto.errors import UnavailableError

V = 12


@pytest.fixture
def served(monkeypatch):
    """Serve nothing: note what the server was given, and let a session pass."""
    given = []

    async def serve(
        engine, host, port, max_sessions, grace_s, on_ready, telemetry=None, reflection=False, health_port=None, **more
    ):
        given.append((telemetry, reflection))
        if health_port is not None:
            health_port.set("", health_pb2.HealthCheckResponse.SERVING)
            given.append(await asyncio.to_thread(status_of, str(health_port.address), 5.0, Access()))
        if telemetry is not None:
            telemetry.opened()
            telemetry.round(Round(RoundKind.JUDGE, 0.1, accepted=1))
            telemetry.ended(Ending("OK", stood=True, rounds=1, seconds=1.0))
        given.append(pages())
        on_ready(Address(host, port))

    def pages():
        found = re.search(r"http://\S+/metrics", invoked[-1].err())
        if not found:
            return None
        with urllib.request.urlopen(found[0], timeout=10) as answer:
            return answer.read().decode()

    class Invoked:
        def __init__(self):
            self.lines = []

        def err(self):
            return "\n".join(self.lines)

    invoked = [Invoked()]
    say = serve_command.voice

    def voice(values):
        chrome = say(values)
        plain = chrome.say
        chrome.say = lambda sentence: (invoked[-1].lines.append(sentence), plain(sentence))[1]
        return chrome

    monkeypatch.setattr(serve_command, "voice", voice)
    monkeypatch.setattr(serve_command, "serve", serve)
    monkeypatch.setattr(serve_command, "resolve", lambda model, role: None)
    monkeypatch.setattr(serve_command, "load_engine", lambda source, settings: FakeEngine(contextual(V, 1), V))
    return given


def invoke(*arguments: str, **environment: str):
    return CliRunner(env=environment).invoke(basestation.main, ["serve", *arguments])


def test_nobody_listens_without_a_flag(served):
    result = invoke()
    assert (result.exit_code, result.stderr) == (0, "loading bundled …\nstopped\n")
    assert served == [(None, False), None]


def test_metrics_are_served_while_the_server_runs_and_said_on_stderr(served):
    result = invoke("--metrics-port", "0", "--reflection")
    assert result.exit_code == 0
    assert re.fullmatch(r"loading bundled …\nmetrics on http://127\.0\.0\.1:\d+/metrics\nstopped\n", result.stderr)
    (_, reflection), page = served
    assert reflection and 'uihlm_drafts_total{verdict="accepted"} 1.0' in page
    assert 'engine="fake"' in page


def test_health_checks_are_answered_at_a_port_of_their_own_which_is_said_on_stderr(served):
    result = invoke("--health-port", "0")
    assert result.exit_code == 0
    assert re.fullmatch(r"loading bundled …\nhealth on 127\.0\.0\.1:\d+\nstopped\n", result.stderr)
    assert served[1] == "SERVING"
    address = re.search(r"127\S+", result.stderr)[0]
    with pytest.raises(UnavailableError, match="no base station answers"):
        status_of(address, 1.0, Access())


def test_json_logs_leave_no_other_line_on_stderr(served):
    result = invoke("--log-format", "json", UIHLM_SERVE_LOG_LEVEL="info")
    records = [json.loads(line) for line in result.stderr.splitlines()]
    assert [record["message"] for record in records] == [
        "loading bundled …",
        "session opened",
        "session ended: OK, 1 rounds in 1.000 s",
        "stopped",
    ]
    assert result.stdout == "ready: fake on 127.0.0.1:50051\n"
    quiet = invoke("--log-format", "json")
    assert len(quiet.stderr.splitlines()) == 2, "sessions are not warnings"


@pytest.mark.parametrize("flag", ["--metrics-port", "--health-port"])
def test_a_taken_port_exits_4(served, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = invoke(flag, str(taken.getsockname()[1]))
    assert result.exit_code == 4 and f"choose another with {flag}" in result.stderr
    assert served == []


@pytest.mark.parametrize(
    "arguments",
    [["--metrics-port", "-1"], ["--health-port", "65536"], ["--log-format", "xml"], ["--log-level", "loud"]],
)
def test_usage_errors_exit_2(served, arguments):
    assert invoke(*arguments).exit_code == 2


def test_the_command_imports_no_metrics_and_no_ray():
    """Nothing that a base station without these flags would pay for."""
    heavy = "('prometheus_client', 'grpc_reflection.v1alpha', 'ray', 'torch', 'transformers', 'llama_cpp')"
    code = f"import sys, uihlm_cli.basestation; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
