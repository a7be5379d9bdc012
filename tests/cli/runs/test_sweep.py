"""`uihlm-device sweep`, end to end through the real assembly, loop, client and server; only the weights are fakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_pair import Weights
from uihlm_cli.device import main
from uihlm_evaluation.report.table_one import table_one
from uihlm_evaluation.sweeps import compute_times
from uihlm_evaluation.sweeps.compute_times import ComputeTimes

# Everything in this process: the fake weights do not cross to another.
HERE = ("--jobs", "1", "--draft-time-s", "0.01", "--forward-time-s", "0.02", "--max-tokens", "8", "--no-metrics")
SMALL = (
    "--policy",
    "slm",
    "--policy",
    "llm",
    "--policy",
    "hlm",
    "--policy",
    "u",
    "--policy",
    "ui",
    "--k",
    "1",
    "--k",
    "3",
)


pytestmark = pytest.mark.usefixtures("weights")


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    rows = [{"instruction": text, "output": text[::-1]} for text in ("Name a river.", "Say hello.", "Count.")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def invoke(command: str, *arguments: object) -> Result:
    result = CliRunner().invoke(main, [command, *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def swept(prompts: str, *arguments: object, folder: str = "run") -> Result:
    result = invoke("sweep", "--dataset", prompts, "--output", folder, *HERE, *arguments)
    assert result.exit_code == 0, result.output
    return result


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def results(folder: str = "run") -> dict:
    return json.loads(Path(folder, "results.json").read_text())


def test_dry_run_lists_the_papers_grid_and_writes_nothing(prompts):
    result = invoke("sweep", "--dataset", prompts, "--dry-run", "--output", "run")
    assert result.exit_code == 0
    listed = result.stdout.splitlines()
    assert listed[0] == "24 rows over 3 prompts of prompts.jsonl"
    assert len([line for line in listed if line.startswith("  ")]) == 24
    assert listed[-1] == "and controls at the upload rates of u and ui"
    assert not Path("run").exists()


def test_rows_and_controls_stand_in_one_folder(prompts):
    swept(prompts, *SMALL, "--gamma", "1")
    rows = [entry["row"] for entry in results()["policies"]]
    assert rows == ["slm", "llm", "hlm", "u", "ui k=1", "ui k=3", "random", "confidence", "u-random"]
    assert len(lines("run/samples.jsonl")) == 9 * 3
    by_row = {entry["row"]: entry for entry in results()["policies"]}
    assert by_row["random"]["rate"] == pytest.approx(by_row["u"]["upload_rate"])
    assert (by_row["ui k=3"]["policy"], by_row["ui k=3"]["k"], by_row["ui k=3"]["gamma"]) == ("ui", 3, 1.0)


def test_no_controls_leaves_them_out(prompts):
    swept(prompts, *SMALL, "--no-controls")
    assert {entry["policy"] for entry in results()["policies"]} == {"slm", "llm", "hlm", "u", "ui"}


def test_shared_work_changes_no_token(prompts):
    """The same rows, each run alone by eval, write the same tokens for the same reasons."""
    swept(prompts, *SMALL, "--gamma", "1", "--no-controls", folder="swept")
    policies = [flag for name in ("slm", "llm", "hlm", "u", "ui") for flag in ("--policy", name)]
    timing = ("--draft-time-s", "0.01", "--forward-time-s", "0.02", "--max-tokens", "8", "--no-metrics")
    alone = invoke("eval", "--dataset", prompts, "--output", "alone", *policies, "--k", "3", *timing)
    assert alone.exit_code == 0, alone.output
    kept = (
        "prompt",
        "position",
        "token",
        "origin",
        "u",
        "importance",
        "y_d",
        "tv",
        "reject_prob",
        "uploaded",
        "link_s",
    )

    def told(folder: str, name: str) -> list[dict]:
        return [
            {key: line.get(key) for key in kept} for line in lines(f"{folder}/rounds.jsonl") if line["policy"] == name
        ]

    for own, theirs in (("slm", "slm"), ("llm", "llm"), ("hlm", "hlm"), ("u", "u"), ("ui k=3", "ui")):
        assert told("swept", own) == told("alone", theirs)
        assert told("alone", theirs)


def test_the_llm_runs_on_behind_hlm_unless_it_is_told_to_wait(prompts):
    for folder, flags, runs_on in (("on", (), True), ("waits", ("--no-run-on",), False)):
        swept(prompts, "--policy", "hlm", "--policy", "u", "--no-controls", *flags, folder=folder)
        assert results(folder)["config"]["decode"].get("run_on", False) is runs_on
    took_s = {
        (folder, entry["policy"]): entry["latency_s"]["mean"]
        for folder in ("on", "waits")
        for entry in results(folder)["policies"]
    }
    assert took_s["on", "hlm"] < took_s["waits", "hlm"] and took_s["on", "u"] == took_s["waits", "u"]
    refused = invoke("sweep", "--dataset", prompts, "--policy", "u", "--run-on")
    assert refused.exit_code == 2 and "got --policy u" in refused.stderr


def test_rows_share_their_drafts(prompts, weights):
    swept(prompts, "--policy", "ui", "--no-controls")
    drafts = weights.drafts
    tokens = sum(sample["tokens"] for sample in lines("run/samples.jsonl"))
    assert drafts < tokens / 2, "fifteen rows go much of their way together"


def test_interrupted_sweep_goes_on_where_it_stopped(prompts, weights):
    def stop(weights: Weights) -> None:
        if weights.drafts > 100:
            raise KeyboardInterrupt

    whole = swept(prompts, *SMALL, folder="whole")
    weights.drafts = 0
    weights.before_draft = stop
    result = CliRunner().invoke(main, ["sweep", "--dataset", prompts, "--output", "run", *HERE, *SMALL])
    assert result.exit_code == 130
    assert "--resume --output run" in result.stderr
    done = len(lines("run/samples.jsonl"))
    assert 0 < done < len(lines("whole/samples.jsonl"))
    weights.before_draft = lambda weights: None
    resumed = swept(prompts, *SMALL, "--resume")
    assert resumed.stdout == whole.stdout
    assert results("run")["policies"] == results("whole")["policies"]


def test_table_one_has_the_papers_row_beside_ours(prompts):
    swept(prompts, "--policy", "slm", "--policy", "hlm", "--policy", "ui", "--k", "3", "--gamma", "1", "--no-controls")
    objects = json.loads(Path("run/table1.json").read_text())
    (paper,) = [row for row in table_one() if (row.policy, row.k, row.gamma) == ("ui", 3, 1.0)]
    ui = objects[2]
    assert (ui["policy"], ui["k"], ui["gamma"]) == ("ui", 3, 1.0)
    assert ui["paper"]["upload_rate"] == pytest.approx(paper.upload_rate)
    assert ui["paper"]["throughput_paper_tok_s"] == paper.throughput_tok_s
    ours = ui["ours"]["upload_rate"]
    assert ours["low"] <= ours["mean"] <= ours["high"]
    with Path("run/table1.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [line["row"] for line in cells] == ["slm", "hlm", "ui"]
    assert float(cells[2]["upload_rate"]) == ours["mean"]
    assert float(cells[2]["upload_rate_paper"]) == pytest.approx(paper.upload_rate)
    assert "| paper: ui |" in Path("run/table1.md").read_text()


def test_row_that_the_paper_lacks_has_none_beside_it(prompts):
    swept(prompts, "--policy", "ui", "--k", "4", "--gamma", "1", "--no-controls")
    (row,) = json.loads(Path("run/table1.json").read_text())
    assert row["paper"] is None


def test_compute_times_are_measured_once_where_no_flag_fixes_them(prompts):
    flags = ("--jobs", "1", "--max-tokens", "8", "--no-metrics", "--policy", "slm", "--policy", "llm", "--no-controls")
    result = invoke("sweep", "--dataset", prompts, "--output", "run", *flags)
    assert result.exit_code == 0, result.output
    assert "measuring compute times" in result.stderr
    times = json.loads(Path("run/compute_times.json").read_text())
    charged = {line["draft_s"] for line in lines("run/rounds.jsonl") if line["policy"] == "slm"}
    assert sorted(charged) == pytest.approx([times["draft_s"]["slm"]], rel=1e-6)
    again = invoke("sweep", "--dataset", prompts, "--output", "run", *flags, "--resume")
    assert "measuring" not in again.stderr


def test_a_draft_takes_what_it_takes_also_in_blocks(prompts):
    flags = ("--jobs", "1", "--max-tokens", "8", "--no-metrics", "--no-controls", "--policy", "hlm", "--policy", "slm")
    result = invoke(
        *("sweep", "--dataset", prompts, "--output", "run", *flags),
        *("--draft-length", "4", "--draft-p-min", "0.01", "--draft-time-s", "0.01"),
    )
    assert result.exit_code == 0, result.output
    times = json.loads(Path("run/compute_times.json").read_text())["draft_s"]
    assert [times["hlm"], times["slm"]] == pytest.approx([0.01, 0.01])


def test_forwards_are_timed_as_they_will_be(prompts, monkeypatch):
    """Of single drafts alone nobody learns what a further position of a block takes."""
    asked = []

    def measure(rows, examples, answer):
        _, records = answer(rows[0].label, examples[0])
        longest = max(record.llm_positions for record in records)
        asked.append(longest)
        return ComputeTimes({row.label: 0.01 for row in rows}, 0.02, 0.001 * longest)

    monkeypatch.setattr(compute_times, "measure", measure)
    flags = ("--jobs", "1", "--max-tokens", "8", "--no-metrics", "--no-controls", "--policy", "hlm", "--no-agreement")
    result = invoke("sweep", "--dataset", prompts, "--output", "run", *flags, "--draft-length", "4")
    assert result.exit_code == 0, result.output
    alone, in_blocks = asked
    assert alone <= 1 < in_blocks
    assert json.loads(Path("run/compute_times.json").read_text())["position_s"] == 0.001 * in_blocks


def test_controls_of_a_grid_without_their_like_are_timed_too(prompts):
    """`random` computes no u: no row of this grid says what its drafts take."""
    arguments = ("--max-tokens", "8", "--no-metrics", "--jobs", "1", "--policy", "ui", "--policy", "u", "--k", "3")
    result = invoke("sweep", "--dataset", prompts, "--output", "run", *arguments)
    assert result.exit_code == 0, result.output
    samples = [json.loads(line) for line in Path("run/samples.jsonl").read_text().splitlines()]
    assert {"random", "confidence", "u-random"} <= {sample["policy"] for sample in samples}
    assert not any(sample["error"] for sample in samples)


def test_unknown_policy_and_twofold_rows_are_usage_or_plain_errors(prompts):
    unknown = invoke("sweep", "--dataset", prompts, "--policy", "zeal")
    assert (unknown.exit_code, "unknown policy 'zeal'" in unknown.stderr) == (2, True)
    twice = invoke("sweep", "--dataset", prompts, "--policy", "u", "--policy", "u", "--dry-run")
    assert (twice.exit_code, "twice" in twice.stderr) == (1, True)
    assert invoke("sweep", "--resume").exit_code == 2


def test_grid_can_come_from_a_file(prompts):
    Path("grid.toml").write_text('policy = ["u"]\ntheta_u = [0.3, 0.6]\ncontrols = false\n')
    result = invoke("sweep", "--dataset", prompts, "--config", "grid.toml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert [line.strip() for line in result.stdout.splitlines()[1:]] == ["u θ_u=0.3", "u θ_u=0.6"]


@pytest.mark.parametrize("flags", [("--theta-u", "nan", "--policy", "u"), ("--gamma", "inf", "--policy", "ui")])
def test_numbers_that_are_none_are_refused_in_a_grid_too(prompts, flags):
    result = invoke("sweep", "--dataset", prompts, "--dry-run", *flags)
    assert result.exit_code == 2 and "must be a finite number" in result.stderr


def test_a_sweep_with_controls_is_not_resumed_without_them(prompts):
    swept(prompts, *SMALL)
    before = Path("run", "results.json").read_bytes()
    again = ("--no-controls", "--resume")
    result = invoke("sweep", "--dataset", prompts, "--output", "run", *HERE, *SMALL, *again)
    assert result.exit_code == 1 and "holds controls already: go on with --controls" in result.stderr
    assert Path("run", "results.json").read_bytes() == before
