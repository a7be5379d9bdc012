"""Joules of a chat: measured beside modelled on the line after each answer and on /stats."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from chatting import Bench, V, chat
from fake_counters import FakeCounters, FakeMachine, install_zeus
from fakes import FakeEngine, contextual
from stations import standing
from uihlm_cli import assembly

ZEUS = ("--meter", "zeus")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    bench = Bench()
    monkeypatch.setattr(assembly, "opened_device", bench.opened)
    monkeypatch.chdir(tmp_path)
    return bench


def wall(start_s: float, end_s: float, watts: float = 20.0) -> None:
    now = time.time()
    lines = [f"{now + second:.3f},{watts}\n" for second in range(int(start_s), int(end_s) + 1)]
    Path("wall.csv").write_text("time,watts\n" + "".join(lines))


def test_each_answer_and_the_chat_show_both_numbers(bench, monkeypatch):
    install_zeus(monkeypatch, FakeMachine(gpus=(4.0,), zones=(("package-0", 6.0),)))
    result = chat(*ZEUS, "--policy", "hlm", typed="Hi\nAgain\n/stats\n")
    said = re.findall(r"· (\d+\.\d) J measured, both ends on one machine; (\d+\.\d) modelled\]", result.stderr)
    assert [measured for measured, _ in said] == ["10.0", "10.0"]
    # "hello" and its end: 6 drafts of 0.01 s at 5 W, and at least as many forwards of 0.02 s at 300 W.
    assert all(float(modelled) >= 6 * (0.01 * 5 + 0.02 * 300) - 0.1 for _, modelled in said)
    assert re.search(r"measured +20\.0 J measured, both ends on one machine", result.stderr)
    assert re.search(r"energy +\d.*modelled: the given watts", result.stderr)
    assert result.stdout == "hello\nhello\n"


def test_without_a_meter_nothing_is_said_of_one(bench):
    result = chat("--policy", "hlm", typed="Hi\n/stats\n")
    assert "measured" not in result.stderr


def test_wall_meter_is_read_as_far_as_it_has_come(bench):
    wall(-60, -30)
    flags = ("--meter", "csv", "--meter-device", "wall.csv", "--policy", "hlm")
    late = chat(*flags, "Hi")
    assert late.exit_code == 0
    assert re.search(r"joules not measured: an answer: wall.csv ends \d+\.\d s too early", late.stderr)
    wall(-300, 600)
    assert re.search(r"\d+\.\d J measured, both ends on one machine", chat(*flags, "Hi").stderr)
    assert "note: gone.csv is not there yet" in chat("--meter", "csv", "--meter-device", "gone.csv", "Hi").stderr


@pytest.mark.parametrize("meter", [(), (*ZEUS, "--meter-apart")], ids=["none here", "zeus"])
def test_base_station_elsewhere_tells_its_own(bench, monkeypatch, meter):
    install_zeus(monkeypatch, FakeMachine(gpus=(4.0,)))
    engine = FakeEngine(contextual(V, 3), V)
    with standing(engine, counters=FakeCounters(3.0)) as station:
        result = chat(
            "--policy", "llm", "--max-tokens", "5", "--server", str(station.address), *meter, typed="Hi\n/stats\n"
        )
    # The prefill gives the first token; the other four take a forward each.
    expected = "19.0 J measured (device 4.0, base station 15.0); " if meter else "base station 15.0 J measured, "
    assert result.stderr.count(expected) == 2


def test_idle_machine_is_measured_first(bench, monkeypatch):
    install_zeus(monkeypatch, FakeMachine(gpus=(4.0,)))
    result = chat(*ZEUS, "--meter-idle-s", "0.01", "Hi")
    assert "measuring the idle machine for 0.01 s" in result.stderr
    assert re.search(r"idle, it draws \d+\.\d W", result.stderr)
    assert bench.configs, "and then the chat goes on"


def test_counters_that_fail_in_mid_chat_cost_no_answer(bench, monkeypatch):
    machine = FakeMachine(gpus=(4.0,))
    install_zeus(monkeypatch, machine)

    def says(head: str) -> str:
        machine.broken = machine.broken or "Again" in head
        return "hello"

    bench.drafter_says = says
    result = chat(*ZEUS, "--policy", "hlm", typed="Hi\nAgain\nMore\n/stats\n")
    assert result.exit_code == 0 and result.stdout == "hello\n" * 3
    assert result.stderr.count("4.0 J measured, both ends on one machine") == 1
    # Two answers and /stats.
    lost = "joules not measured: the energy counters cannot be read any more (the driver is gone)"
    assert " ".join(result.stderr.split()).count(lost) == 3
    assert machine.windows == []
