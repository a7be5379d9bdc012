"""`--link-trace` through eval and rebill: deterministic, the same billed again, and never another token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_pair import Weights, installed
from same_runs import contents, lines, unlike
from uihlm_cli.device import main
from uihlm_wireless import trace_file

TIMED = ("--draft-time-s", "0.01", "--forward-time-s", "0.02")
PROMPTS = [{"instruction": text, "input": "", "output": "x"} for text in ("Name a river.", "Sum up.", "Go on.")]
POLICIES = ("slm", "llm", "hlm", "u", "random")
DRIVE = ("--link-trace", "drive.csv")


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    loaded = installed(monkeypatch, tmp_path)
    Path("drive.csv").write_text("".join(f"{0.05 * n:g},{n * 7919 % 90000}\n" for n in range(40)))
    Path("drive.mahi").write_text("".join(f"{n * n * 10}\n" for n in range(1, 12)))
    Path("long.csv").write_text("0,40000\n30,30000\n900,10000\n")
    Path("long.mahi").write_text("".join(f"{10 * n}\n" for n in range(1, 9000)))
    return loaded


def invoke(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    return result


def evaluated(folder: str, *flags: object, exit_code: int = 0) -> Result:
    chosen = [flag for name in POLICIES for flag in ("--policy", name)]
    usual = ("--dataset", "../prompts.jsonl", "--max-tokens", "8", "--no-metrics", "--theta-u", "0.4", "--rate", "0.6")
    return invoke("eval", *usual, *chosen, "--output", folder, *flags, exit_code=exit_code)


def tokens(folder: str) -> list[tuple[object, ...]]:
    return [(row["policy"], row["prompt"], row["position"], row["token"]) for row in lines(f"{folder}/rounds.jsonl")]


@pytest.mark.parametrize(
    "change",
    [
        ("--link-trace", "drive.csv"),
        ("--link-trace", "drive.mahi"),
        ("--link-trace", "drive.csv", "--rtt-s", "0.03", "--grant-delay-s", "0.004", "--airtime", "wire"),
        ("--link-trace", "drive.mahi", "--fading-seed", "7", "--devices", "3", "--airtime", "wire"),
        ("--link-trace", "long.csv", "--link-trace-end", "once", "--link", "nr"),
        # Compute times and steps of whole milliseconds: every begin falls on an opportunity.
        ("--link-trace", "long.mahi", "--link-trace-end", "once", "--rtt-s", "0.03"),
    ],
    ids=" ".join,
)
def test_a_rebilled_run_equals_a_fresh_one_and_writes_the_same_tokens(change):
    evaluated("saved", *TIMED)
    evaluated("fresh", *TIMED, *change)
    invoke("rebill", "saved", "--output", "billed", *change)
    assert unlike(contents("saved")["results.json"], contents("fresh")["results.json"]), "the change shows"
    assert unlike(contents("billed"), contents("fresh"), tolerance=1e-6) == []
    assert tokens("fresh") == tokens("saved")


def test_the_bits_of_an_answer_are_what_the_trace_offered_meanwhile():
    """A steady trace is the link of its rate."""
    Path("steady.csv").write_text("0,200000\n")
    evaluated("traced", *TIMED, "--link-trace", "steady.csv")
    for row in lines("traced/samples.jsonl"):
        assert row["airtime_s"] == pytest.approx(row["model_bits"] / 200_000, abs=1e-8)


def test_places_are_those_of_the_prompt_whatever_the_policy_or_the_order():
    evaluated("whole", *TIMED, *DRIVE)
    evaluated("second", *TIMED, *DRIVE, "--offset", "1", "--limit", "1")
    whole = {(row["policy"], row["prompt"]): row for row in lines("whole/samples.jsonl")}
    starts = {prompt: {row["trace_start_s"] for (_, of), row in whole.items() if of == prompt} for prompt in range(3)}
    assert all(len(places) == 1 for places in starts.values())
    assert len(set.union(*starts.values())) == 3
    for row in lines("second/samples.jsonl"):
        assert unlike(row, {**whole[row["policy"], row["prompt"]], "queue_s": row["queue_s"]}, tolerance=1e-6) == []


def test_a_named_link_leaves_the_trace_of_a_saved_run():
    evaluated("plain", *TIMED, "--link", "nr")
    evaluated("traced", *TIMED, "--link", "nr", *DRIVE)
    invoke("rebill", "traced", "--output", "back", "--link", "nr")
    assert unlike(contents("back"), contents("plain"), tolerance=1e-6) == []
    result = CliRunner().invoke(main, ["rebill", "traced", "--output", "no", "--bandwidth-hz", "1e6"])
    assert (result.exit_code, "leave --bandwidth-hz out" in " ".join(result.stderr.split())) == (2, True)


def test_a_trace_that_has_changed_is_not_taken_for_the_saved_runs():
    evaluated("traced", *TIMED, *DRIVE)
    Path("drive.csv").write_text("0,1\n")
    trace_file._loaded.cache_clear()  # as in a fresh process
    result = invoke("rebill", "traced", "--output", "again", "--rtt-s", "1", exit_code=1)
    assert "drive.csv holds another trace" in result.stderr
    evaluated("traced", *TIMED, *DRIVE, "--resume", exit_code=1)


def test_after_the_end_a_run_and_a_bill_fail_as_an_outage():
    Path("short.csv").write_text("0,200000\n0.1,200000\n")
    once = ("--link-trace", "short.csv", "--link-trace-end", "once")
    assert "trace ends 0.2 s" in evaluated("traced", *TIMED, *once, exit_code=4).stderr
    evaluated("saved", *TIMED)
    assert "trace ends 0.2 s" in invoke("rebill", "saved", "--output", "billed", *once, exit_code=4).stderr


def test_after_the_end_a_device_may_go_on_alone():
    Path("short.csv").write_text("0,200000\n0.1,200000\n")
    once = ("--link-trace", "short.csv", "--link-trace-end", "once")
    evaluated("alone", *TIMED, *once, "--on-outage", "local", "--outage-s", "0.2")
    rows = {row["policy"]: row for row in lines("alone/samples.jsonl") if row["prompt"] == 0}
    assert rows["hlm"]["outage_tokens"] > 0
    assert rows["slm"]["outage_tokens"] == 0
    # A stream that is opened again is no new trace: what it carried at its start is not carried twice.
    assert 0 < rows["hlm"]["airtime_s"] <= 0.2


def test_the_clock_that_really_waits_meets_the_same_trace():
    """Seconds are real, so the bill is the same but for how exactly a sleep ends."""
    Path("steady.csv").write_text("0,2e5\n0.001,2e5\n")
    flags = ("--link-trace", "steady.csv", "--draft-time-s", "0", "--forward-time-s", "0", "--max-tokens", "3")
    evaluated("virtual", *flags)
    evaluated("real", *flags, "--clock", "enforced")
    assert tokens("real") == tokens("virtual")
    for real, virtual in zip(lines("real/samples.jsonl"), lines("virtual/samples.jsonl"), strict=True):
        assert real["airtime_s"] == pytest.approx(virtual["airtime_s"], abs=1e-7)
        assert real["latency_s"] >= real["airtime_s"]


def test_the_report_names_the_trace():
    evaluated("traced", *TIMED, *DRIVE)
    invoke("report", "traced", "--output", "page.html")
    assert "trace drive.csv (sha256 " in Path("page.html").read_text()
