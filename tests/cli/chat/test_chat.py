"""`uihlm-device chat`: answers, turns of a conversation, and what stands around them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from chatting import V, chat
from uihlm_cli.device import main
from uihlm_device.turn import Turn


def test_without_flags_the_answer_is_the_llms_own_for_the_price_of_ids(bench):
    plain = CliRunner().invoke(main, ["chat", "--clock", "simulated", "What?"])
    assert plain.exit_code == 0 and plain.stdout == chat("What?", "--policy", "llm").stdout
    assert "uploaded 100%" in plain.stderr and "· 8 bit/tok ·" in plain.stderr


def test_one_shot_prints_the_answer_and_nothing_else(bench):
    result = chat("What?", "--policy", "hlm")
    assert (result.stdout, result.exit_code) == ("hello\n", 0)
    assert bench.history == "[user]What?\x03[assistant]hello"


def test_one_shot_text_is_never_a_command(bench):
    chat("/exit", "--policy", "slm")
    assert bench.history.startswith("[user]/exit\x03")


def test_end_of_turn_line_is_exact(bench):
    bench.llm_says = lambda head: "hallo"
    result = chat("What?", "--policy", "hlm", "--link", "paper")
    # Six tokens, five of them accepted; the prefill judges the first, so five forwards are charged.
    # Airtime 256·32 bit: 47.04 ms an upload, in which the LLM's forward takes place.
    assert result.stderr == (
        "[6 tokens · 17.5 tok/s · uploaded 100% · accepted 83% · LLM 1.00 forwards/tok · 8.19 kbit/tok"
        " · link 0.28 s · energy saved ≥ 0%]\n"
    )


def test_answer_without_uploads_has_no_acceptance(bench):
    assert "uploaded 0% · accepted – · LLM 0.00 forwards/tok · 0 bit/tok" in chat("What?", "--policy", "slm").stderr


def test_energy_saved_is_zero_for_hlm_and_that_of_the_upload_term_for_slm():
    # hlm: (126 + 350·0.5 + 100) either way. slm: 1 − 100/226. llm: no draft, nothing to compare.
    hlm = Turn(tokens=10, uploaded=10, rejected=5, model_bits=10 * V * 32)
    assert hlm.energy_saving(V) == pytest.approx(0.0)
    assert Turn(tokens=10).energy_saving(V) == pytest.approx(1 - 100 / 226)
    assert Turn(tokens=10, llm_alone=10).energy_saving(V) is None
    # Half uploaded, two rejected: (63 + 70 + 100) / (126 + 70 + 100).
    half = Turn(tokens=10, uploaded=5, rejected=2, model_bits=5 * V * 32)
    assert half.energy_saving(V) == pytest.approx(1 - 233 / 296)


def test_characters_split_over_tokens_come_out_whole(bench):
    bench.drafter_says = lambda head: "naïve 日本 🙂"
    assert chat("?", "--policy", "slm").stdout == "naïve 日本 🙂\n"


def test_half_a_character_at_the_end_becomes_a_replacement(bench):
    bench.drafter_says = lambda head: "日本"
    assert chat("?", "--policy", "slm", "--max-tokens", "5").stdout == "日\ufffd\n"


def test_answer_that_ends_in_a_newline_gets_no_second_one(bench):
    bench.drafter_says = lambda head: "a\n"
    assert chat("?", "--policy", "slm").stdout == "a\n"


def test_empty_answer_is_an_empty_line(bench):
    bench.drafter_says = lambda head: ""
    assert chat("?", "--policy", "slm").stdout == "\n"


def test_answer_cut_off_says_so_and_the_next_turn_closes_it(bench):
    result = chat("--policy", "slm", "--max-tokens", "3", typed="a\nb\n")
    assert result.stdout == "hel\nhel\n"
    assert "[cut off by max_tokens · 3 tokens · " in result.stderr
    assert bench.history == "[user]a\x03[assistant]hel\x03[user]b\x03[assistant]he"


def test_each_piped_line_is_a_turn_of_one_conversation(bench):
    bench.drafter_says = lambda head: f"{head.count('[user]')}"
    result = chat("--policy", "hlm", typed="one\n\ntwo\n")
    assert (result.stdout, result.exit_code) == ("1\n2\n", 0)
    assert bench.history == "[user]one\x03[assistant]1\x03[user]two\x03[assistant]2"
    assert len(bench.keys) == 1, "one stream for the whole conversation"


def test_dash_takes_all_of_stdin_as_one_message(bench):
    chat("-", "--policy", "slm", typed="one\n/two\n")
    assert bench.history.startswith("[user]one\n/two\x03[assistant]")


def test_block_is_one_message_taken_as_it_is(bench):
    chat("--policy", "slm", typed='"""\n/exit\n  two\n"""\n//slash\n')
    assert bench.history.startswith("[user]/exit\n  two\x03[assistant]hello\x03[user]/slash\x03[assistant]")


def test_block_on_one_line(bench):
    chat("--policy", "slm", typed='"""a"""\n')
    assert bench.history.startswith("[user]a\x03")


def test_block_that_is_not_closed_is_refused(bench):
    result = chat("--policy", "slm", typed='"""\na\n')
    assert (result.stdout, result.exit_code) == ("", 1)
    assert result.stderr == 'error: the block begun with """ was not closed, so it was left out\n'


def test_welcome_names_models_policy_and_link(bench, typing):
    lines = chat("--link", "paper", typed="").stderr.splitlines()
    assert lines[:5] == [
        "loading …",
        "uihlm chat",
        "  drafts   fake drafter",
        "  checks   fake LLM",
        "  policy   ui; link paper, 1 MHz at -8.9 dB, simulated clock; /help for commands, Ctrl-D leaves",
    ]


def test_exit_ends_before_the_rest_of_the_script(bench):
    assert chat("--policy", "slm", typed="/exit\na\n").stdout == ""


def test_colours_only_when_asked_and_never_alone(bench):
    bench.drafter_says, bench.llm_says = lambda head: "ab", lambda head: "aB"
    plain = chat("?", "--policy", "hlm")
    assert "\x1b" not in plain.output
    coloured = chat("?", "--policy", "hlm", "--color", "always")
    assert coloured.stdout == "\x1b[32m\x1b[4ma\x1b[0m\x1b[33m\x1b[1mB\x1b[0m\n"
    assert "\x1b[33m\x1b[1mresampled\x1b[0m" in coloured.stderr, "a legend for what is shown"
    assert chat("?", "--policy", "slm", "--color", "always").stdout == "ab\n"
    assert chat("?", "--policy", "llm", "--color", "always").stdout.startswith("\x1b[36m\x1b[3ma\x1b[0m")


def test_colour_and_control_characters_on_a_terminal(bench, monkeypatch):
    bench.drafter_says = lambda head: "a\x1b[2Jb\n"
    assert chat("?", "--policy", "slm").stdout == "a\x1b[2Jb\n", "data is data"
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    assert chat("?", "--policy", "hlm", TERM="xterm").stdout.startswith("\x1b[32m\x1b[4ma\x1b[0m\x1b[32m\x1b[4m\ufffd")
    without_colour = chat("?", "--policy", "hlm", TERM="xterm", NO_COLOR="1")
    assert without_colour.stdout.startswith("\x1b[4ma\x1b[0m")
    assert "\x1b[32m" not in without_colour.output
    assert "\x1b" not in chat("?", "--policy", "hlm", "--color", "never", TERM="xterm").output


def test_help_imports_no_model_library():
    code = (
        "import sys; from uihlm_cli.device import main\n"
        "try: main(['chat', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'llama_cpp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert 'uihlm-device chat "Why is the sky blue?"' in done.stdout
    assert "UIHLM_CHAT_THETA_U" in done.stdout
