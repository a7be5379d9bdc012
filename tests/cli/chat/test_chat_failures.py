"""`chat` where a base station, a context or an input fails: what is told, kept and given as exit code."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from chatting import Bench, chat
from fakes import FakeDrafter
from uihlm_cli.device import main
from uihlm_proto.errors import UnavailableError


def test_unreachable_base_station_exits_4_in_one_shot(bench):
    result = chat("?", "--policy", "hlm", "--server", "127.0.0.1:1")
    assert (result.stdout, result.exit_code) == ("", 4)
    assert "no base station answers at 127.0.0.1:1" in result.stderr


def test_failed_message_is_taken_back_and_the_chat_lives(bench, typing):
    script = "a\n/set policy slm\nb\n/exit\n"
    result = chat("--policy", "hlm", "--server", "127.0.0.1:1", typed=script)
    assert (result.stdout, result.exit_code) == ("hello\n", 0)
    assert "error: no base station answers" in result.stderr
    assert bench.history == "[user]b\x03[assistant]hello"


def test_script_ends_with_the_code_of_its_first_failure(bench):
    result = chat("--policy", "hlm", "--server", "127.0.0.1:1", typed="a\n/nope\n")
    assert result.exit_code == 4


def test_answer_broken_off_keeps_its_text(bench, typing):
    def fail(bench: Bench) -> None:
        if bench.history.endswith("he"):
            bench.before_forward = lambda bench: None
            raise UnavailableError("the base station is going away")

    bench.before_forward = fail
    result = chat("--policy", "hlm", typed="a\nb\n/exit\n")
    assert result.stdout == "hel\nhello\n"
    assert "[broken off · 3 tokens · " in result.stderr
    assert "energy saved ≥ 0%]\nerror: the base station is going away\n" in result.stderr
    assert bench.history == "[user]a\x03[assistant]hel\x03[user]b\x03[assistant]hello"


def test_full_context_is_told_and_clear_helps(bench, typing, monkeypatch):
    monkeypatch.setattr(FakeDrafter, "max_context", 40)
    result = chat("--policy", "slm", typed=f"{'x' * 60}\nb\n/exit\n")
    assert result.stdout == "hello\n"
    assert "error: the conversation has 78 tokens, the drafter's context holds 40" in result.stderr


def test_answer_that_fills_the_context_says_so(bench, monkeypatch):
    monkeypatch.setattr(FakeDrafter, "max_context", 21)
    result = chat("a", "--policy", "slm")
    assert result.stdout == "he\n"
    assert result.stderr.startswith("[cut off: the context is full · 2 tokens · ")


@pytest.mark.parametrize("arguments", [[""], ["--policy", "best"], ["--k", "0"], ["a", "b"]])
def test_usage_errors_exit_2(bench, arguments):
    assert chat(*arguments).exit_code == 2


def test_input_that_is_no_text_is_refused(bench):
    result = CliRunner().invoke(main, ["chat", "--policy", "slm"], input=b"\xff\xfe\n")
    assert (result.stdout, result.exit_code) == ("", 1)
    assert "not UTF-8" in result.stderr


def test_a_bad_line_costs_no_other(bench):
    result = CliRunner().invoke(main, ["chat", "--policy", "slm"], input=b"a\n\xff\xfe\nb\n")
    assert (result.stdout, result.exit_code) == ("hello\nhello\n", 1)
    assert result.stderr.count("not UTF-8") == 1
