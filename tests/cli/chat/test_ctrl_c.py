"""Ctrl-C in `chat`: once stops the answer, twice ends the program."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from chatting import Bench, chat


def interrupting(times: int, after: str, by: Callable[[], None]) -> Callable[[Bench], None]:
    """Press Ctrl-C so often, once each time the history ends like that."""
    left = [times]

    def press(bench: Bench) -> None:
        if left[0] and bench.history.endswith(after):
            left[0] -= 1
            by()

    return press


def raised() -> None:
    raise KeyboardInterrupt


def signalled() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("by", "kept"), [(raised, "hel"), (signalled, "hell")])
def test_ctrl_c_stops_the_answer_and_keeps_its_text(bench, typing, by, kept):
    bench.before_forward = interrupting(1, "[assistant]he", by)
    result = chat("--policy", "hlm", typed="a\nb\n/exit\n")
    # A signal lets the token in progress end; the loop's own exception does not.
    assert result.stdout == f"{kept}\nhello\n"
    assert "[stopped · " in result.stderr
    assert bench.history == f"[user]a\x03[assistant]{kept}\x03[user]b\x03[assistant]hello"
    assert (result.exit_code, len(bench.keys)) == (0, 2)
    assert bench.keys[0] == bench.keys[1], "the conversation goes on under its key, on a new stream"


def test_two_ctrl_c_in_one_answer_exit_130(bench, typing):
    bench.before_forward = interrupting(1, "[assistant]he", lambda: (signalled(), signalled()))
    result = chat("--policy", "hlm", typed="a\nb\n/exit\n")
    assert (result.stdout, result.exit_code) == ("hell\n", 130)
    assert result.stderr.endswith("interrupted\n")


def test_ctrl_c_before_the_first_token_takes_the_message_back(bench, typing):
    bench.before_forward = interrupting(1, "", raised)
    result = chat("--policy", "slm", typed="a\nb\n/exit\n")
    assert result.stdout == "hello\n"
    assert bench.history == "[user]b\x03[assistant]hello"


def test_ctrl_c_in_one_shot_and_in_a_script_exit_130(bench):
    for arguments, typed in ((["a"], ""), ([], "a\nb\n")):
        bench.before_forward = interrupting(1, "[assistant]he", signalled)
        result = chat("--policy", "slm", *arguments, typed=typed)
        assert (result.stdout, result.exit_code) == ("hell\n", 130)


def test_ctrl_c_at_the_prompt_twice_in_a_row_exits_130(bench, typing, monkeypatch):
    lines: list[str | type[BaseException]] = [KeyboardInterrupt, "a", KeyboardInterrupt, KeyboardInterrupt, "b"]

    def typed(prompt: str) -> str:
        line = lines.pop(0)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", typed)
    result = chat("--policy", "slm")
    assert (result.stdout, result.exit_code, lines) == ("hello\n", 130, ["b"])
    assert result.stderr.count("Ctrl-C again leaves") == 2


def test_ctrl_c_on_something_half_typed_only_leaves_that_out(bench, typing, monkeypatch):
    lines = ["a", KeyboardInterrupt, '"""', "b", KeyboardInterrupt, KeyboardInterrupt, "half", "c", EOFError]

    def typed(prompt: str) -> str:
        line = lines.pop(0)
        if line == "half" or not isinstance(line, str):
            monkeypatch.setattr("uihlm_cli.chat.slash_commands.half_typed", lambda: line if line == "half" else "")
            raise KeyboardInterrupt if line == "half" else line
        return line

    monkeypatch.setattr("builtins.input", typed)
    result = chat("--policy", "slm")
    assert (result.stdout, result.exit_code) == ("hello\nhello\n", 0)
    assert bench.history == "[user]a\x03[assistant]hello\x03[user]c\x03[assistant]hello"


def test_ctrl_c_breaks_a_wait_for_the_link_off_at_once(bench, typing):
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started_s = time.monotonic()
    result = chat("--policy", "hlm", "--rtt-s", "60", "--clock", "enforced", typed="a\n/exit\n")
    assert time.monotonic() - started_s < 20.0
    assert "stopped before the first token; the message was taken back\n" in result.stderr
    assert result.exit_code == 0


def test_signal_handler_is_put_back(bench):
    before = signal.getsignal(signal.SIGINT)
    chat("a", "--policy", "slm")
    assert signal.getsignal(signal.SIGINT) is before
