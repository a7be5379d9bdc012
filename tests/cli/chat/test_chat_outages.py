"""`chat` while the base station is lost: the answer goes on, and shows which tokens nobody has checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_pair import STOP, AsciiTokenizer, V, Weights, chatty, installed
from fakes import FakeEngine, mixed, serving
from proxy import Proxy
from uihlm_cli.device import main

STRIKE = "\x1b[9m"


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    piece = lambda self, token: b"" if token == STOP else bytes([token])  # noqa: E731
    monkeypatch.setattr(AsciiTokenizer, "piece", piece, raising=False)
    return installed(monkeypatch, tmp_path)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    engine = FakeEngine(mixed(chatty(1), chatty(2), 0.4), V)
    with serving(engine) as address, Proxy(address) as proxy:
        yield proxy


def chat(*arguments: object, **environment: str) -> Result:
    flags = ["--policy", "hlm", "--codec", "dense32", "--max-tokens", "24", "--seed", "2", *map(str, arguments)]
    result = CliRunner(env=environment).invoke(main, ["chat", *flags, "Why?"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def leaving(weights: Weights, proxy: Proxy, after: int) -> None:
    weights.before_draft = lambda weights: proxy.away() if weights.drafts == after else None


@pytest.mark.parametrize("colour", ["always", "never"])
def test_answer_goes_on_and_its_unchecked_tokens_are_told_apart(weights, proxy, colour):
    leaving(weights, proxy, 2)
    result = chat("--server", proxy.address, "--outage-s", "0.2", "--color", colour)
    assert result.exit_code == 0, result.output
    assert re.search(r"· [1-9]\d* unchecked, link lost ·", result.stderr)
    # Struck through, beside the red: colour is not the only cue.
    assert (STRIKE in result.stdout) == (colour == "always")
    assert ("outage" in result.stderr.splitlines()[0]) == (colour == "always"), "the legend names it"


def test_answer_fails_where_it_was_told_to(weights, proxy):
    leaving(weights, proxy, 2)
    result = chat("--server", proxy.address, "--on-outage", "fail")
    assert result.exit_code == 4
    assert "broken off" in result.stderr and "unchecked" not in result.stderr


def test_llm_waits_because_it_has_nothing_to_go_on_with(weights, proxy):
    result = chat("--server", proxy.address, "--policy", "llm", "--on-outage", "local", "--outage-s", "0.2")
    assert result.exit_code == 0
    proxy.away()
    assert chat("--server", proxy.address, "--policy", "llm").exit_code == 4


@pytest.mark.parametrize("what", ["local", "wait", "fail"])
def test_base_station_that_was_never_there_exits_4(what):
    result = chat("--server", "127.0.0.1:1", "--on-outage", what)
    assert (result.stdout.strip(), result.exit_code) == ("", 4)
    assert "no base station answers at 127.0.0.1:1" in result.stderr


def test_own_base_station_is_never_gone_on_without(weights):
    """It is in this process: it may be slow, and slow is no outage."""
    assert "outage" not in chat("--color", "always").stderr
