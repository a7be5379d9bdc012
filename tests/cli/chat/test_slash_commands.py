"""What is typed with a slash: settings, streams, sums and help."""

from __future__ import annotations

import re

import pytest

from chatting import chat


def test_clear_starts_a_new_stream_with_another_key(bench):
    bench.drafter_says = lambda head: f"{head.count('[user]')}"
    result = chat("--policy", "hlm", typed="a\n/clear\nb\n")
    assert result.stdout == "1\n1\n"
    assert bench.history.startswith("[user]b\x03[assistant]1")
    assert len(set(bench.keys)) == 2
    bench.keys, before = [], bench.keys
    chat("--policy", "hlm", typed="a\n/clear\nb\n")
    assert bench.keys == before, "the same seed gives the same keys"


def test_system_prompt_from_flag_command_block_and_back(bench):
    heads = []
    bench.drafter_says = lambda head: (heads.append(head), "x")[1]
    script = 'a\n/system Be brief.\nb\n/system """\nTwo\nlines\n"""\nc\n/system -\nd\n/system\n'
    result = chat("--policy", "slm", "--system", "S", typed=script)
    assert list(dict.fromkeys(heads)) == [
        "[system]S\x03[user]a\x03",
        "[system]Be brief.\x03[user]b\x03",
        "[system]Two\nlines\x03[user]c\x03",
        "[user]d\x03",
    ]
    assert result.stderr.endswith("the model's own system prompt\n")


def test_set_changes_policy_and_length_between_answers(bench):
    bench.llm_says = lambda head: "LLM"
    result = chat("--policy", "slm", typed="a\n/set policy llm\nb\n/set max-tokens=2\nc\n")
    assert result.stdout == "hello\nLLM\nLL\n"
    assert "policy = llm\n" in result.stderr
    assert "max_tokens = 2\n" in result.stderr


def test_set_temperature_opens_a_new_stream_with_the_same_history(bench):
    result = chat("--policy", "hlm", typed="a\n/set theta_u 0.1\nb\n/set temperature 0\nc\n/set seed 7\nd\n")
    assert result.stdout == "hello\n" * 4
    assert bench.history.count("[assistant]hello") == 4
    # θ_u is the device's own business; temperature and seed are not, and the seed alone changes the key.
    assert len(bench.keys) == 3
    assert bench.keys[0] == bench.keys[1] != bench.keys[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set", ""),
        ("/set nonsense 1", "there is no setting nonsense: known are policy, theta_u"),
        ("/set codec dense16", "codec cannot change while the chat runs: start it again with --codec"),
        ("/set policy best", "policy: 'best' is not one of"),
        ("/set k 0", "k: 0 is not in the range x>=1."),
        ("/set theta_u nan", "theta_u must be a finite number, got nan"),
        ("/set temperature hot", "temperature: 'hot' is not a valid float"),
        ("/set seed 9223372036854775808", "seed must fit 64 bits"),
        ("/set k", "/set k needs a value; it is 3 now"),
        ("/nope", "there is no command /nope"),
        ("/clear all", "/clear takes nothing after it, got 'all'"),
    ],
)
def test_command_mistakes_are_told_and_the_chat_goes_on(bench, line, message):
    result = chat("--policy", "slm", typed=f"{line}\na\n")
    assert result.stdout == "hello\n"
    if message:
        assert f"error: {message}" in result.stderr
    assert result.exit_code == (1 if message else 0), "a script that goes wrong must not look right"


def test_set_alone_lists_settings_with_their_values(bench):
    lines = chat("--theta-u", "0.25", typed="/set\n").stderr.splitlines()
    assert [line.split()[:2] for line in lines][:3] == [["policy", "ui"], ["theta_u", "0.25"], ["k", "3"]]
    assert len(lines) == 13


def test_mistakes_of_somebody_who_types_do_not_show_in_the_exit_code(bench, typing):
    assert chat("--policy", "slm", typed="/nope\n/exit\n").exit_code == 0


def test_stats_sum_the_answers(bench):
    result = chat("--policy", "hlm", typed="a\nb\n/stats\n")
    assert "2 answers, 12 tokens" in result.stderr
    assert "12 of 12 tokens, 100.0%" in result.stderr
    assert "12 forwards, 1.00 a token" in result.stderr
    assert "of skipping: not audited (--audit)" in result.stderr


def test_stats_tell_the_risk_of_skipping(bench):
    result = chat("--policy", "u", "--theta-u", "0.9", "--risk", "0.1", typed="a\nb\n/stats\n")
    told = re.search(
        r"risk +([\d.]+)% of all tokens the LLM would have rejected .*\((\d+) of (\d+) audited\)", result.stderr
    )
    assert told is not None and told[1] == "0.0", "where the drafter is sure, these two models agree"
    assert told[2] == told[3] != "0", "to the end of each answer"


def test_help_lists_every_command(bench):
    text = chat(typed="/help\n").stderr
    assert all(name in text for name in ("/set", "/system", "/clear", "/stats", "/help", "/exit", '"""', "Ctrl-C"))
