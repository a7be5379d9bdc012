"""A wall meter's file laid over a run by its times: after the run, or later by `uihlm-device joules`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evaluating import TIMED, by_policy, done, evaluate, lines, results
from fake_counters import FakeCounters, FakeMachine, install_zeus
from stations import standing
from uihlm_cli.device import main

CSV = ("--meter", "csv")
WALL = (*CSV, "--meter-device", "wall.csv")


pytestmark = pytest.mark.usefixtures("weights")


def joules(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["joules", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def wall(path: str, watts: float, start_s: float = -300.0, end_s: float = 600.0, iso: bool = False) -> str:
    """Write a meter that reads the same power every second, from so many seconds before now to so many after."""
    now = time.time()
    times = [now + second for second in range(int(start_s), int(end_s) + 1)]
    shown = [datetime.fromtimestamp(t, UTC).isoformat() if iso else f"{t:.6f}" for t in times]
    Path(path).write_text("time,watts\n" + "".join(f"{one},{watts}\n" for one in shown))
    return path


def spans(folder: str = "run") -> list[float]:
    return [sample["ended_unix_s"] - sample["started_unix_s"] for sample in lines(f"{folder}/samples.jsonl")]


@pytest.mark.parametrize("iso", [False, True])
def test_each_answer_gets_the_joules_of_its_own_time(prompts, iso):
    wall("wall.csv", 50.0, iso=iso)
    shown = done("--dataset", prompts, "--policy", "slm", "--policy", "hlm", *WALL, *TIMED)
    for sample, span in zip(lines("run/samples.jsonl"), spans(), strict=True):
        assert sample["measured_machine_j"] == pytest.approx(50.0 * span, abs=1e-3)
        assert sample["measured_device_j"] is sample["measured_basestation_j"] is None
    total = sum(entry["measured_j"] for entry in by_policy().values())
    assert total == pytest.approx(50.0 * sum(spans()), abs=1e-3)
    meter = results()["meter"]
    assert (meter["kind"], meter["shared"], meter["device"], meter["interval_s"]) == (
        "csv", True, "wall.csv", pytest.approx(1.0),
    )  # fmt: skip
    assert "the wall meter reads every 1 s; 6 answers took" in shown.stderr
    assert "6 of them less than a reading: trust the sums of a row, not theirs" in shown.stderr
    assert "J/token: both ends, modelled and measured" in shown.stdout


def test_device_and_base_station_have_a_meter_each(prompts, weights):
    wall("wall.csv", 50.0)
    wall("far.csv", 400.0)
    with standing(weights.engine(), counters=FakeCounters(3.0)) as station:
        flags = ("--server", station.address, "--meter-apart", "--no-agreement", *TIMED)
        done("--dataset", prompts, "--policy", "hlm", *WALL, *flags, "--output", "told")
        done("--dataset", prompts, "--policy", "hlm", *WALL, "--meter-basestation", "far.csv", *flags)
    for sample, span in zip(lines("run/samples.jsonl"), spans(), strict=True):
        assert sample["measured_device_j"] == pytest.approx(50.0 * span, abs=1e-3)
        assert sample["measured_basestation_j"] == pytest.approx(400.0 * span, abs=1e-3), "the meter, not the verdicts"
    entry, told = by_policy()["hlm"], by_policy("told")["hlm"]
    assert entry["measured_j"] == pytest.approx(450.0 * sum(spans()), abs=1e-2)
    assert told["measured_basestation_j"] == pytest.approx(3.0 * told["llm_forwards_per_token"] * told["tokens"])
    for folder, left in (("told", told["measured_basestation_j"]), ("run", None)):
        # What a station told stands beside a second file of the device; what a file told has given way with it.
        assert joules(folder, "--meter-device", "wall.csv").exit_code == 0
        assert by_policy(folder)["hlm"]["measured_basestation_j"] == left


def test_idle_power_comes_from_the_same_file(prompts):
    wall("wall.csv", 7.0)
    done("--dataset", prompts, "--policy", "hlm", *WALL, "--meter-idle-s", "0.05")
    meter = results()["meter"]
    assert meter["idle_machine_w"] == pytest.approx(7.0, rel=1e-3)
    assert 0.05 <= meter["idle_s"] < 10.0


def test_file_that_ends_too_early_leaves_a_whole_run_that_another_file_completes(prompts):
    wall("wall.csv", 50.0, end_s=-30.0)
    flags = ("--dataset", prompts, "--policy", "slm", "--policy", "hlm", *TIMED)
    shown = evaluate(*flags, *WALL)
    assert shown.exit_code == 2
    said = " ".join(shown.stderr.split())
    assert "prompt 0 under slm: wall.csv ends" in said
    assert "`uihlm-device joules run --meter-device FILE` puts them in" in said
    assert "hlm" in shown.stdout, "the table all the same"
    assert {entry["measured_j"] for entry in by_policy().values()} == {None}
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    still = joules("run", "--meter-device", "wall.csv")
    assert (still.exit_code, still.stdout) == (2, "")
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before

    wall("whole.csv", 50.0)
    result = joules("run", "--meter-device", "whole.csv", "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == results()["policies"]
    assert sum(e["measured_j"] for e in by_policy().values()) == pytest.approx(50.0 * sum(spans()), abs=1e-3)
    assert results()["meter"]["device"] == "whole.csv"
    assert "measured J, one machine" in Path("run/table.md").read_text()
    # Nothing but joules has changed, and a second file takes the place of the first.
    own = {"measured_machine_j"}
    for one, line in zip(lines("run/samples.jsonl"), before["samples.jsonl"].decode().splitlines(), strict=True):
        assert {k: v for k, v in one.items() if k not in own} == {
            k: v for k, v in json.loads(line).items() if k not in own
        }
    assert Path("run/rounds.jsonl").read_bytes() == before["rounds.jsonl"]
    wall("twice.csv", 100.0)
    assert joules("run", "--meter-device", "twice.csv").exit_code == 0
    assert sum(e["measured_j"] for e in by_policy().values()) == pytest.approx(100.0 * sum(spans()), abs=1e-3)


def test_file_may_come_after_the_run(prompts):
    shown = evaluate("--dataset", prompts, "--policy", "hlm", *WALL)
    assert shown.exit_code == 2
    assert "note: wall.csv is not there yet: it is read after the answers" in shown.stderr
    wall("wall.csv", 5.0)
    assert joules("run", "--meter-device", "wall.csv").exit_code == 0
    assert by_policy()["hlm"]["measured_j"] == pytest.approx(5.0 * sum(spans()), abs=1e-3)


def test_bad_line_is_named_with_its_number(prompts):
    Path("wall.csv").write_text("time,watts\n10,5\n11,much\n")
    shown = evaluate("--dataset", prompts, "--policy", "hlm", *WALL)
    assert shown.exit_code == 2
    assert "wall.csv, line 3: 'much' is no number" in shown.stderr


def test_resumed_run_lays_the_file_over_all_answers(prompts):
    wall("wall.csv", 50.0)
    flags = ("--dataset", prompts, "--policy", "hlm", *WALL, *TIMED)
    done(*flags)
    first = Path("run/samples.jsonl").read_text().splitlines(keepends=True)[0]
    Path("run/samples.jsonl").write_text(first)
    done(*flags, "--resume")
    assert by_policy()["hlm"]["measured_j"] == pytest.approx(50.0 * sum(spans()), abs=1e-3)
    assert json.loads(first)["started_unix_s"] == lines("run/samples.jsonl")[0]["started_unix_s"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [((), "its joules were modelled"), (("--meter", "zeus"), "its joules were measured by zeus")],
)
def test_runs_without_a_wall_meter_are_refused(prompts, monkeypatch, flags, said):
    install_zeus(monkeypatch, FakeMachine(gpus=(1.0,)))
    wall("wall.csv", 50.0)
    done("--dataset", prompts, "--policy", "hlm", *flags)
    result = joules("run", "--meter-device", "wall.csv")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("files", "said"),
    [((), "no wall meter's file is named"), (("--meter-basestation", "wall.csv"), "one meter reads both")],
)
def test_files_that_do_not_fit_the_run_are_refused(prompts, files, said):
    wall("wall.csv", 50.0)
    done("--dataset", prompts, "--policy", "hlm", *WALL)
    result = joules("run", *files)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
