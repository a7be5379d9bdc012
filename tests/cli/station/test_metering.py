"""`uihlm-bs serve --meter`: counters reach the server, or the command ends before it loads anything."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from fake_counters import FakeMachine, install_zeus
from fakes import FakeEngine, contextual
from uihlm_cli import basestation
from uihlm_cli.station import serve as serve_command

ZEUS = ("serve", "--meter", "zeus")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What each server was started with; none listens."""
    calls: list[dict] = []

    async def serve(*arguments: object, **named: object) -> None:
        calls.append(named)

    monkeypatch.setattr(serve_command, "resolve", lambda model, role: SimpleNamespace())
    monkeypatch.setattr(serve_command, "load_engine", lambda source, settings: FakeEngine(contextual(16, 2), 16))
    monkeypatch.setattr(serve_command, "serve", serve)
    return calls


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(basestation.main, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_counters_reach_the_server_and_are_named(monkeypatch, served):
    install_zeus(monkeypatch, FakeMachine(gpus=(2.0, 3.0), zones=(("package-0", 4.0),), rapl_locked=True))
    result = invoke(*ZEUS)
    assert result.exit_code == 0, result.output
    assert served[0]["counters"].begin()() == 5.0
    assert "measuring the joules of forwards: gpu0, gpu1" in result.stderr
    assert "left out of the measured joules: the processor's counters, RAPL, may be read by root alone" in result.stderr


def test_without_the_flag_nothing_is_measured(monkeypatch, served):
    install_zeus(monkeypatch, FakeMachine(gpus=(2.0,)))
    assert invoke("serve").exit_code == 0
    assert served[0]["counters"] is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--meter zeus finds no energy counter on this machine"),
        (("--engine-pool", "ray", "--insecure"), "replicas may run on any: serve without --engine-pool ray"),
    ],
)
def test_what_cannot_be_measured_exits_2_before_anything_is_loaded(monkeypatch, served, flags, said):
    install_zeus(monkeypatch, FakeMachine(gpus=(1.0,) if flags else ()))
    monkeypatch.setattr(serve_command, "load_engine", None)
    monkeypatch.setattr(serve_command, "resolve", None)
    result = invoke(*ZEUS, *flags)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert served == []
