"""Which machine is this, as far as the speed of a model depends on it? Nothing that names a person or a host."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def cpu_model() -> str:
    """Return the processor's model name."""
    return _first("model name") or platform.processor() or platform.machine()


def cpu_flags() -> tuple[str, ...]:
    """Return the instruction sets that the processor offers, sorted; empty where the system does not tell."""
    return tuple(sorted((_first("flags") or _first("Features")).split()))


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def available_memory_bytes() -> int | None:
    """Return the memory that a process may still take; None where the system does not tell."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    for line in info.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def _first(name: str) -> str:
    """Return the value of the first line of that name in what Linux says of its processors; empty without one."""
    if not _CPU_INFO.is_file():
        return ""
    for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
