"""Forwards that would not fit on the cores side by side take turns.

Threads of a forward wait for each other at every node of its graph. With two forwards on the same cores, a thread that runs
waits for one that does not, and the other way round: both together then take longer than one after the other. It happens in a
process that has drafter and LLM, whenever one runs ahead of the other's word.
"""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager

from uihlm_models.machine import available_cores

_TURN = threading.Lock()
_AT_WILL = contextlib.nullcontext()


def turn(threads: int, on_cpu: bool) -> AbstractContextManager[object]:
    """Return what a forward of so many threads is run in: this process's one turn, unless there is room for two of its kind."""
    return _TURN if on_cpu and 2 * threads > available_cores() else _AT_WILL
