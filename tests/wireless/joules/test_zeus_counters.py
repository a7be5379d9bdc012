"""Counters as Zeus reads them: which are summed, which are left out and told, and what a machine without any is told."""

import sys

import pytest

from fake_counters import FakeMachine, FakeSoc, install_zeus
from uihlm_wireless.joules.zeus_counters import MeterError, ZeusCounters


def opened(monkeypatch, **machine):
    install_zeus(monkeypatch, FakeMachine(**machine))
    return ZeusCounters()


def test_gpus_processors_and_their_memory_are_summed(monkeypatch):
    counters = opened(
        monkeypatch, gpus=(3.0, 4.0), zones=(("package-0", 10.0), ("package-1", 20.0)), dram={0: 0.5, 1: 0.25}
    )
    assert list(counters.domains) == ["gpu0", "gpu1", "cpu0", "cpu1"]
    assert counters.unread == ()
    assert counters.begin()() == pytest.approx(3.0 + 4.0 + 10.0 + 20.0 + 0.5 + 0.25)


def test_a_zone_that_holds_the_others_does_not_count_twice(monkeypatch):
    counters = opened(monkeypatch, zones=(("package-0", 10.0), ("psys", 25.0)))
    assert list(counters.domains) == ["cpu0"]
    assert counters.begin()() == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("soc", "joules"),
    [
        (FakeSoc(cpu_energy_mj=1000.0, gpu_energy_mj=500.0, total_energy_mj=4000.0), 4.0),
        (FakeSoc(cpu_energy_mj=1000.0, gpu_energy_mj=500.0), 1.5),
        (FakeSoc(gpu_energy_mj=500.0), 0.5),
    ],
    ids=["rail for the whole board", "parts alone", "one part"],
)
def test_a_jetson_counts_its_whole_board_once(monkeypatch, soc, joules):
    counters = opened(monkeypatch, soc=soc)
    assert list(counters.domains) == ["soc"]
    assert counters.begin()() == pytest.approx(joules)


def test_windows_may_overlap(monkeypatch):
    machine = install_zeus(monkeypatch, FakeMachine(gpus=(2.0,)))
    counters = ZeusCounters()
    outer, inner = counters.begin(), counters.begin()
    assert len(machine.windows) == 2
    assert (inner(), outer()) == (2.0, 2.0)
    assert machine.windows == []


def test_a_gpu_beside_a_locked_processor_says_what_is_left_out(monkeypatch):
    counters = opened(monkeypatch, gpus=(2.0,), zones=(("package-0", 10.0),), rapl_locked=True)
    assert list(counters.domains) == ["gpu0"]
    assert counters.unread == ("the processor's counters, RAPL, may be read by root alone",)
    assert counters.begin()() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({}, "no GPU of NVIDIA or AMD, no RAPL, no Jetson and no Apple silicon"),
        ({"zones": (("package-0", 1.0),), "rapl_locked": True}, "may be read by root alone"),
        ({"zones": (("psys", 1.0),)}, "no RAPL"),
    ],
)
def test_a_machine_without_counters_is_told_why_and_what_to_do(monkeypatch, machine, why):
    with pytest.raises(MeterError, match="--meter csv") as refused:
        opened(monkeypatch, **machine)
    assert why in str(refused.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
    for name in ("zeus", "zeus.exception"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MeterError, match=r"pip install 'uihlm\[zeus\]'"):
        ZeusCounters()
