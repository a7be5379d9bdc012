"""Forwards that would not fit on the cores side by side take turns, in one thread where there is one for them.

Threads of a forward wait for each other at every node of its graph. With two forwards on the same cores, a thread that runs
waits for one that does not, and the other way round: both together then take longer than one after the other. It happens in a
process that has drafter and LLM, whenever one runs ahead of the other's word.

An engine has a thread of its own (forward_thread.py). Once forwards of this kind have run there, those that are asked for
anywhere else in the process run there too. Without such a thread each runs where it is asked for, one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from uihlm_models.forward_thread import EndedError, ForwardThread
from uihlm_models.machine import available_cores
from uihlm_models.openmp import release_team

T = TypeVar("T")
Runner = Callable[[Callable[[], T]], T]

_TURN = threading.Lock()


class _Host:
    """Where forwards are handed to."""

    thread: ForwardThread | None = None


class _OfThread(threading.local):
    """What is known of the calling thread."""

    has_team = False


_HOST, _HERE = _Host(), _OfThread()


def turn(threads: int, on_cpu: bool) -> Runner[T]:
    """Return what runs a forward of so many threads: in its turn, unless there is room for two of its kind."""
    return _in_turn if on_cpu and 2 * threads > available_cores() else _at_will


def _at_will(forward: Callable[[], T]) -> T:
    return forward()


def _in_turn(forward: Callable[[], T]) -> T:
    here, host = threading.current_thread(), _HOST.thread
    if isinstance(here, ForwardThread):
        if host is None or not host.is_alive():
            _HOST.thread = here
    elif host is not None and host.is_alive():  # it is not in a process that was forked
        if _HERE.has_team:
            release_team()
            _HERE.has_team = False
        try:
            return host.call(forward)
        except EndedError:
            _HOST.thread = None
    with _TURN:
        _HERE.has_team = True
        return forward()
