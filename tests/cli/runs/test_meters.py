"""`eval` and `sweep` with a meter: measured joules stand beside modelled ones in every file, or the run is refused at once."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from evaluating import TIMED, by_policy, done, evaluate, fixed, lines, results
from fake_counters import FakeCounters, FakeMachine, install_zeus
from stations import standing
from uihlm_cli.device import main
from uihlm_wireless.joules.counters import WindowMeter

MEASURED = ("measured_device_j", "measured_basestation_j", "measured_machine_j")
ZEUS = ("--meter", "zeus")
# 10 J a window: 4 of them a GPU's.
MACHINE = FakeMachine(gpus=(4.0,), zones=(("package-0", 5.0),), dram={0: 1.0})


pytestmark = pytest.mark.usefixtures("weights")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return install_zeus(monkeypatch, MACHINE)


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def measured(sample: dict) -> tuple[float | None, ...]:
    return tuple(sample[name] for name in MEASURED)


# Counters


def test_one_machine_has_one_counter_and_its_joules_are_never_split(prompts, machine):
    shown = done("--dataset", prompts, "--policy", "slm", "--policy", "hlm", *ZEUS, *TIMED)
    assert "measuring the joules of device and base station together: gpu0, cpu0" in shown.stderr
    for sample in lines("run/samples.jsonl"):
        assert measured(sample) == (None, None, 10.0)
        assert 0.0 < sample["ended_unix_s"] - sample["started_unix_s"] < 60.0
        # The modelled ones beside them: 5 W while drafting, 300 W while the LLM runs.
        assert sample["device_j"] == pytest.approx(5.0 * sample["draft_s"])
        assert sample["basestation_j"] == pytest.approx(300.0 * sample["bs_busy_s"])
    for entry in by_policy().values():
        assert (entry["measured_j"], entry["measured_machine_j"]) == (30.0, 30.0)
        assert entry["measured_device_j"] is entry["measured_basestation_j"] is None
        assert entry["energy_j"] == pytest.approx(entry["transmit_j"] + entry["device_j"] + entry["basestation_j"])
    meter = results()["meter"]
    assert (meter["kind"], meter["shared"], meter["counters"], meter["idle_s"]) == (
        "zeus",
        True,
        ["gpu0", "cpu0"],
        None,
    )
    assert results()["config"]["meter"] == "zeus"
    assert "measured J, one machine" in Path("run/table.md").read_text()
    assert "J/token: both ends, modelled and measured" in shown.stdout
    assert machine.windows == [], "every window was ended"


def test_base_station_elsewhere_tells_its_own_joules(prompts, machine, weights):
    engine = weights.engine()
    with standing(engine, counters=FakeCounters(3.0)) as station:
        flags = ("--server", station.address, "--meter-apart", *ZEUS, *TIMED, "--no-agreement")
        shown = done("--dataset", prompts, "--policy", "slm", "--policy", "llm", "--policy", "hlm", *flags)
    assert "measuring the joules of the device: gpu0, cpu0" in shown.stderr
    for sample in lines("run/samples.jsonl"):
        told = None if sample["policy"] == "slm" else 3.0 * sample["llm_forwards"]
        assert measured(sample) == (10.0, told, None)
    for name, entry in by_policy().items():
        basestation_j = 0.0 if name == "slm" else 3.0 * entry["llm_forwards_per_token"] * entry["tokens"]
        assert entry["measured_device_j"] == 30.0
        assert entry["measured_basestation_j"] == pytest.approx(basestation_j)
        assert entry["measured_j"] == pytest.approx(30.0 + basestation_j)
    # The first draft is judged by the row of the prefill, which Ready has told of.
    rounds = [line for line in lines("run/rounds.jsonl") if line["policy"] == "hlm"]
    assert {(line["llm_forwards"], line.get("basestation_j")) for line in rounds} == {(0, None), (1, 3.0)}
    table = Path("run/table.md").read_text()
    assert all(f"measured J, {end}" in table for end in ("device", "base station"))


def test_base_station_tells_its_joules_to_a_device_without_a_meter(prompts, weights):
    with standing(weights.engine(), counters=FakeCounters(3.0)) as station:
        done("--dataset", prompts, "--policy", "hlm", "--server", station.address, "--no-agreement", *TIMED)
    (entry,) = by_policy().values()
    assert entry["measured_j"] is entry["measured_device_j"] is None
    assert entry["measured_basestation_j"] == pytest.approx(3.0 * entry["llm_forwards_per_token"] * entry["tokens"])
    assert lines("run/samples.jsonl")[0]["started_unix_s"] is None
    assert "meter" not in results()


def test_a_base_station_on_the_same_address_is_the_same_machine(prompts, machine, weights):
    with standing(weights.engine(), counters=FakeCounters(3.0)) as station:
        done("--dataset", prompts, "--policy", "hlm", "--server", station.address, *ZEUS, "--no-agreement")
    # What it told is in the machine's counters already.
    assert [measured(sample) for sample in lines("run/samples.jsonl")] == [(None, None, 10.0)] * 3


def test_idle_machine_is_measured_before_anything_is_loaded(prompts, machine, weights, monkeypatch):
    slept: list[tuple[float, int]] = []
    sleeper = SimpleNamespace(sleep=lambda seconds: slept.append((seconds, len(weights.engines))))
    monkeypatch.setattr("uihlm_cli.options.meters.time", sleeper)
    stepping = partial(WindowMeter, wall_clock=lambda: 1000.0 + 4.0 * len(slept))
    monkeypatch.setattr("uihlm_cli.options.meters.WindowMeter", stepping)
    shown = done("--dataset", prompts, "--policy", "hlm", *ZEUS, "--meter-idle-s", "4")
    assert slept == [(4.0, 0)]
    assert "measuring the idle machine for 4 s" in shown.stderr
    meter = results()["meter"]
    assert (meter["idle_s"], meter["idle_machine_w"], meter["idle_device_w"]) == (4.0, 2.5, None)


@pytest.mark.parametrize(
    "command",
    [("eval",), ("sweep",), ("chat", "Hello."), ("serve", "--parallel", "1")],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("locked", [False, True])
def test_machine_without_counters_is_refused_before_anything_is_loaded(command, locked, monkeypatch, weights):
    install_zeus(monkeypatch, FakeMachine(rapl_locked=locked))
    monkeypatch.setattr(weights, "resolve", None)
    result = invoke(*command, *ZEUS)
    assert (result.exit_code, result.stdout) == (2, "")
    said = " ".join(result.stderr.split())
    assert "--meter zeus finds no energy counter on this machine" in said
    assert ("root alone" in said) == locked
    assert "use --meter csv" in said
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--meter", "csv"), "csv needs the wall meter's file"),
        (("--meter-device", "wall.csv"), "give --meter csv with it"),
        ((*ZEUS, "--meter-basestation", "wall.csv"), "give --meter csv with it"),
        (("--meter-idle-s", "5"), "there is no meter to read"),
        (("--meter", "csv", "--meter-basestation", "wall.csv"), "one meter reads both"),
        (("--meter", "csv", "--meter-device", "volts.csv"), "volts.csv, line 1: expected column names"),
        (("--meter", "watts"), "'watts' is not one of"),
    ],
)
def test_flags_that_measure_nothing_exit_2(prompts, machine, flags, said):
    Path("volts.csv").write_text("time,volts\n")
    result = evaluate("--dataset", prompts, *flags)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not Path("run").exists()


# Going on, other prices, many rows


def test_resumed_run_keeps_what_was_measured_and_refuses_another_meter(prompts, machine):
    flags = ("--dataset", prompts, "--policy", "hlm", *TIMED)
    done(*flags, *ZEUS)
    whole = Path("run/samples.jsonl").read_text().splitlines(keepends=True)
    Path("run/samples.jsonl").write_text("".join(whole[:1]))
    done(*flags, *ZEUS, "--resume")
    assert Path("run/samples.jsonl").read_text().startswith(whole[0])
    assert by_policy()["hlm"]["measured_j"] == 30.0
    for other in ((), ("--meter", "csv", "--meter-device", "wall.csv")):
        result = evaluate(*flags, *other, "--resume")
        assert result.exit_code == 1
        assert "meter: zeus" in result.stderr


def test_meter_changes_no_token_and_no_modelled_number(prompts, machine):
    flags = ("--dataset", prompts, "--policy", "u", "--policy", "hlm", *TIMED)
    done(*flags, "--output", "plain")
    done(*flags, *ZEUS)
    own = {*MEASURED, "started_unix_s", "ended_unix_s"}
    for one, other in zip(fixed("run/samples.jsonl"), fixed("plain/samples.jsonl"), strict=True):
        assert {k: v for k, v in one.items() if k not in own} == {k: v for k, v in other.items() if k not in own}
        assert all(other[name] is None for name in own)
    assert fixed("run/rounds.jsonl") == fixed("plain/rounds.jsonl")


def test_rebilled_run_keeps_measured_joules_and_prices_the_modelled_anew(prompts, machine):
    done("--dataset", prompts, "--policy", "hlm", *ZEUS, *TIMED)
    before = by_policy()["hlm"]
    result = invoke("rebill", "run", "--device-w", "50", "--output", "dearer")
    assert result.exit_code == 0, result.output
    assert "measured joules are those of the saved run; modelled ones are billed again" in result.stderr
    after = by_policy("dearer")["hlm"]
    assert after["device_j"] == pytest.approx(10.0 * before["device_j"])
    assert after["measured_j"] == before["measured_j"] == 30.0
    assert results("dearer")["meter"] == results()["meter"]
    for own, other in zip(lines("run/samples.jsonl"), lines("dearer/samples.jsonl"), strict=True):
        assert other["device_j"] == pytest.approx(10.0 * own["device_j"])
        assert measured(own) == measured(other)


SWEPT = ("--max-tokens", "8", "--no-metrics", "--no-controls", "--policy", "slm", "--policy", "hlm", "--policy", "u")


def test_sweep_measures_one_answer_at_a_time_and_lets_no_row_live_on_another(prompts, machine, weights):
    result = invoke("sweep", "--dataset", prompts, *SWEPT, *TIMED, *ZEUS, "--output", "run")
    assert result.exit_code == 0, result.output
    assert {name: entry["measured_j"] for name, entry in by_policy().items()} == dict.fromkeys(by_policy(), 30.0)
    (engine,) = weights.engines
    billed = sum(sample["llm_positions"] for sample in lines("run/samples.jsonl"))
    scored = sum(len(work.new_ids) for work in engine.log) - billed
    weights.engines.clear()
    invoke("sweep", "--dataset", prompts, *SWEPT, *TIMED, "--jobs", "1", "--output", "shared")
    (shared,) = weights.engines
    # Without a meter, rows share what they have in common: the LLM runs less than it is billed for.
    assert sum(len(work.new_ids) for work in shared.log) < billed + scored


@pytest.mark.parametrize("meter", [ZEUS, ("--meter", "csv", "--meter-device", "wall.csv")], ids=["zeus", "csv"])
def test_sweep_side_by_side_is_refused(prompts, machine, meter):
    result = invoke("sweep", "--dataset", prompts, *SWEPT, *meter, "--jobs", "2", "--output", "run")
    assert result.exit_code == 2
    assert "which cannot tell them apart" in " ".join(result.stderr.split())
    assert not Path("run").exists()


def test_old_runs_without_joules_are_still_read(prompts):
    done("--dataset", prompts, "--policy", "hlm")
    path = Path("run/samples.jsonl")
    joules = {*MEASURED, "transmit_j", "device_j", "basestation_j", "started_unix_s", "ended_unix_s"}
    old = [{name: value for name, value in sample.items() if name not in joules} for sample in lines(path)]
    path.write_text("".join(json.dumps(sample) + "\n" for sample in old))
    done("--dataset", prompts, "--policy", "hlm", "--resume")
    assert by_policy()["hlm"]["measured_j"] is None
