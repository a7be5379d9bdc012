"""Counters whose power is known: a fake of our own, and a fake of the library Zeus as it is imported."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


class FakeClock:
    """A wall clock that stands still between `pass_s`."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class FakeCounters:
    """Counts `step_j` each time a window ends, and whatever is spent in between."""

    domains = ("gpu0", "cpu0")

    def __init__(self, step_j: float = 0.0) -> None:
        self.total_j = 0.0
        self.windows = 0
        self._step_j = step_j
        self._lock = threading.Lock()

    def spend(self, joules: float) -> None:
        with self._lock:
            self.total_j += joules

    def begin(self) -> Callable[[], float]:
        started_j = self.total_j

        def end() -> float:
            self.spend(self._step_j)
            self.windows += 1
            return self.total_j - started_j

        return end


@dataclass
class FakeSoc:
    """A Jetson's or an Apple chip's measurement, millijoules."""

    cpu_energy_mj: float | None = None
    gpu_energy_mj: float | None = None
    total_energy_mj: float | None = None


@dataclass
class FakeMeasurement:
    gpu_energy: dict[int, float] = field(default_factory=dict)
    cpu_energy: dict[int, float] | None = None
    dram_energy: dict[int, float] | None = None
    soc_energy: object | None = None


@dataclass
class FakeMachine:
    """What the fake Zeus finds: joules that every window of each domain takes.

    Attributes:
        gpus: one entry a GPU.
        zones: name and joules of each RAPL zone.
        dram: joules of the memory of a zone, by its index.
        soc: measurement of a system on a chip.
        rapl_locked: whether RAPL is there and may be read by root alone.
        windows: those that are open.
        broken: whether it fails from now on where a window ends.
    """

    gpus: tuple[float, ...] = ()
    zones: tuple[tuple[str, float], ...] = ()
    dram: dict[int, float] = field(default_factory=dict)
    soc: object | None = None
    rapl_locked: bool = False
    windows: list[str] = field(default_factory=list)
    broken: bool = False


def install_zeus(monkeypatch: pytest.MonkeyPatch, machine: FakeMachine) -> FakeMachine:
    """Put a fake of the modules that are asked for in place of Zeus."""

    class ZeusBaseError(Exception):
        pass

    class ZeusCPUInitError(ZeusBaseError):
        pass

    class ZeusCPUNoPermissionError(ZeusBaseError):
        pass

    def get_cpus() -> Any:
        if machine.rapl_locked:
            raise ZeusCPUNoPermissionError("Can't read file due to permission error")
        if not machine.zones:
            raise ZeusCPUInitError("RAPL unavailable")
        cpus = [types.SimpleNamespace(rapl_file=types.SimpleNamespace(name=name)) for name, _ in machine.zones]
        return types.SimpleNamespace(cpus=cpus)

    class ZeusMonitor:
        def __init__(self, gpu_indices=None, cpu_indices=None, **unused):
            # As the library: all GPUs, and of the processors those asked for; None would be all of them.
            self.gpu_indices = list(range(len(machine.gpus)))
            self.cpu_indices = list(range(len(machine.zones))) if cpu_indices is None else cpu_indices
            self.soc_is_present = machine.soc is not None

        def begin_window(self, key, sync_execution=True):
            assert not sync_execution, "the library would import torch to wait for it"
            assert key not in machine.windows, "the library refuses a name twice"
            machine.windows.append(key)

        def end_window(self, key, sync_execution=True):
            machine.windows.remove(key)
            if machine.broken:
                raise RuntimeError("the driver is gone")
            cpus = {index: machine.zones[index][1] for index in self.cpu_indices}
            dram = {index: machine.dram[index] for index in self.cpu_indices if index in machine.dram}
            return FakeMeasurement(dict(enumerate(machine.gpus)), cpus or None, dram or None, machine.soc)

    contents = {
        "zeus": {},
        "zeus.exception": {"ZeusBaseError": ZeusBaseError},
        "zeus.monitor": {"ZeusMonitor": ZeusMonitor},
        "zeus.device": {"get_cpus": get_cpus},
        "zeus.device.cpu": {},
        "zeus.device.cpu.common": {
            "ZeusCPUInitError": ZeusCPUInitError,
            "ZeusCPUNoPermissionError": ZeusCPUNoPermissionError,
        },
    }
    for name, values in contents.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return machine
