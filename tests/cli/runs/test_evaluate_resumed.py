"""`eval --resume`: a run that was stopped is the uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evaluating import TIMED, done, evaluate, fixed, lines, results
from fake_pair import Weights
from uihlm_cli.device import main
from uihlm_proto.errors import UnavailableError

pytestmark = pytest.mark.usefixtures("weights")


def interrupt(at: int, error: BaseException) -> Callable[[Weights], None]:
    def hook(weights: Weights) -> None:
        if weights.drafts == at:
            raise error

    return hook


def stopped_and_resumed(prompts: str, weights: Weights, at: int, error: BaseException, *flags: str) -> Result:
    """Run whole into `whole`; then into `run`, stopped at a draft and resumed. Returns the stopped run's result."""
    done("--dataset", prompts, *flags, "--output", "whole")
    weights.drafts, weights.before_draft = 0, interrupt(at, error)
    stopped = evaluate("--dataset", prompts, *flags)
    weights.before_draft = lambda weights: None
    assert 0 < len(lines("run/samples.jsonl")) < len(lines("whole/samples.jsonl"))
    assert not Path("run/results.json").exists()
    done("--dataset", prompts, *flags, "--resume")
    return stopped


@pytest.mark.parametrize("at", [30, 71])
def test_resumed_run_is_the_uninterrupted_one(prompts, weights, at):
    stopped = stopped_and_resumed(prompts, weights, at, KeyboardInterrupt(), *TIMED)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "the same flags and --resume --output run go on with it" in stopped.stderr
    assert stopped.stderr.endswith("interrupted\n")
    for name in ("samples.jsonl", "rounds.jsonl"):
        assert fixed(f"run/{name}") == fixed(f"whole/{name}")
    for own, other in zip(results()["policies"], results("whole")["policies"], strict=True):
        measured = ("bs_busy_s", "energy_j", "basestation_j")
        assert {**own, **dict.fromkeys(measured)} == {**other, **dict.fromkeys(measured)}


def test_torn_last_lines_are_run_again(prompts):
    flags = ("--dataset", prompts, "--policy", "hlm", "--policy", "slm", *TIMED)
    done(*flags, "--output", "whole")
    done(*flags)
    samples, rounds = Path("run/samples.jsonl"), Path("run/rounds.jsonl")
    samples.write_bytes(samples.read_bytes()[:-40])
    rounds.write_bytes(rounds.read_bytes()[:-10])
    done(*flags, "--resume")
    for name in ("samples.jsonl", "rounds.jsonl"):
        assert fixed(f"run/{name}") == fixed(f"whole/{name}")


def test_base_station_lost_half_way_exits_4_and_can_be_resumed(prompts, weights):
    stopped = stopped_and_resumed(prompts, weights, 40, UnavailableError("it went away"), *TIMED)
    assert (stopped.exit_code, stopped.stdout) == (4, "")
    assert "it went away" in stopped.stderr
    assert "--resume --output run" in stopped.stderr
    assert fixed("run/samples.jsonl") == fixed("whole/samples.jsonl")


def test_finished_run_resumes_to_the_same_files_without_a_forward(prompts, weights):
    done("--dataset", prompts)
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    weights.drafts = 0
    done("--dataset", prompts, "--resume")
    assert weights.drafts == 0
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_folder_with_a_run_is_not_written_over(prompts):
    done("--dataset", prompts, "--policy", "slm")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    result = evaluate("--dataset", prompts, "--policy", "slm")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run holds a run already: add --resume to go on with it, or name another --output" in result.stderr
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--theta-u", "0.4"], "rules.theta_u: 0.58 → 0.4"),
        (["--max-tokens", "9"], "decode.max_tokens: 8 → 9"),
        (["--limit", "2"], "selection.limit: None → 2"),
        (["--rtt-s", "0.1"], "link.rtt_s: 0.0 → 0.1"),
        (["--policy", "u"], "policies: "),
        (["--server", "127.0.0.1:1"], "llm: bundled → None"),
    ],
)
def test_resume_with_another_setting_names_it(prompts, change, named):
    done("--dataset", prompts, "--policy", "slm")
    result = evaluate("--dataset", prompts, "--policy", "slm", "--resume", *change)
    assert result.exit_code == 1
    assert f"run was made with other settings ({named}" in result.stderr


def test_resume_after_the_data_set_was_edited_is_refused(prompts):
    done("--dataset", prompts, "--policy", "slm")
    Path(prompts).write_text(Path(prompts).read_text().replace("river", "mountain"))
    result = evaluate("--dataset", prompts, "--policy", "slm", "--resume")
    assert result.exit_code == 1
    assert "run was made with other prompts" in result.stderr


def test_resume_needs_a_folder(prompts):
    result = CliRunner().invoke(main, ["eval", "--dataset", prompts, "--resume"])
    assert result.exit_code == 2
    assert "--resume needs --output" in result.stderr
