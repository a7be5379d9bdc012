"""The counters of this machine as the library Zeus reads them: NVML and AMD SMI for GPUs, RAPL for processors, Jetson, Apple.

Zeus (https://ml.energy/zeus) leaves out in silence what it cannot read; here that is asked after, and told.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from uihlm_proto.errors import UihlmError

# Of a system on a chip: the whole if it has a rail for it, else its parts. Clusters and cores are inside the parts.
_SOC_WHOLE = "total_energy_mj"
_SOC_PARTS = ("cpu_energy_mj", "gpu_energy_mj", "cpu_total_mj", "gpu_mj", "gpu_sram_mj", "dram_mj", "ane_mj")

_INSTALL = "pip install 'uihlm[zeus]'"
_OTHERWISE = "use --meter csv with a wall meter's file, or leave --meter out for modelled joules (docs/joules.md)"


class MeterError(UihlmError):
    """Nothing here can be measured the way it was asked for; the message says what to do."""


class ZeusCounters:
    """What Zeus finds on this machine. Open one a process: it may start helpers that watch counters wrap around.

    Attributes:
        domains: what is counted.
        unread: which counters of this machine are left out and why; empty where there are none.
    """

    def __init__(self) -> None:
        """Find the counters.

        Raises:
            MeterError: if Zeus is not installed, or finds no counter that may be read.
        """
        try:
            from zeus.exception import ZeusBaseError
            from zeus.monitor import ZeusMonitor
        except ImportError as error:
            raise MeterError(f"--meter zeus needs the package zeus ({error}): {_INSTALL}") from error
        try:
            cpus, self.unread = _processors()
            self._monitor = ZeusMonitor(cpu_indices=cpus)
        except ZeusBaseError as error:
            raise MeterError(f"--meter zeus cannot read this machine's counters ({error}): {_OTHERWISE}") from error
        soc = ["soc"] if self._monitor.soc_is_present else []
        self.domains: Sequence[str] = [
            *(f"gpu{index}" for index in self._monitor.gpu_indices), *(f"cpu{index}" for index in cpus), *soc
        ]  # fmt: skip
        if not self.domains:
            why = "; ".join(self.unread) or "no GPU of NVIDIA or AMD, no RAPL, no Jetson and no Apple silicon"
            raise MeterError(f"--meter zeus finds no energy counter on this machine ({why}): {_OTHERWISE}")
        self._names = itertools.count()
        # The first window starts Zeus's helpers, which no answer should be charged for.
        self.begin()()

    def begin(self) -> Callable[[], float]:
        """Begin a window of all domains."""
        name = f"uihlm-{next(self._names)}"
        # No wait for the GPU: what a window covers has read its results back, so nothing of it is under way.
        self._monitor.begin_window(name, sync_execution=False)

        def end() -> float:
            return joules(self._monitor.end_window(name, sync_execution=False))

        return end


def joules(measurement: Any) -> float:
    """Return the joules of a Zeus measurement: GPUs, processors, their memory, and a system on a chip."""
    total = 0.0
    for part in (measurement.gpu_energy, measurement.cpu_energy, measurement.dram_energy):
        total += sum((part or {}).values())
    soc = measurement.soc_energy
    if soc is not None:
        known = {field.name: getattr(soc, field.name) for field in dataclasses.fields(soc)}
        names = [_SOC_WHOLE] if known.get(_SOC_WHOLE) is not None else _SOC_PARTS
        total += sum(known.get(name) or 0.0 for name in names) / 1000.0
    return float(total)


def _processors() -> tuple[list[int], tuple[str, ...]]:
    """Return the processors by Zeus's index, and why those are left out that are there and cannot be read."""
    from zeus.device import get_cpus
    from zeus.device.cpu.common import ZeusCPUInitError, ZeusCPUNoPermissionError

    try:
        found = get_cpus().cpus
    except ZeusCPUNoPermissionError:
        return [], ("the processor's counters, RAPL, may be read by root alone",)
    except ZeusCPUInitError:
        return [], ()
    # The zone psys of some laptops holds the other zones: with them it would count twice.
    zones = [getattr(getattr(cpu, "rapl_file", None), "name", "") for cpu in found]
    return [index for index, zone in enumerate(zones) if zone != "psys"], ()
