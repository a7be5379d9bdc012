"""Forwards that would not fit on the cores side by side take turns.

Threads of a forward wait for each other at every node of its graph. With two forwards on the same cores, a thread that runs
waits for one that does not, and the other way round: both together then take longer than one after the other. It happens in a
process that has drafter and LLM, whenever one runs ahead of the other's word.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

_TURN = threading.Lock()
_AT_WILL = contextlib.nullcontext()


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def turn(threads: int, on_cpu: bool) -> AbstractContextManager[object]:
    """Return what a forward of so many threads is run in: this process's one turn, unless there is room for two of its kind."""
    return _TURN if on_cpu and 2 * threads > available_cores() else _AT_WILL
