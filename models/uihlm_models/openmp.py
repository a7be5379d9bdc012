"""How the threads of a forward wait for each other, where the compiler was GCC: libgomp, under llama.cpp and Torch alike.

A forward of one token meets a few hundred barriers, each some microseconds after the one before. libgomp spins there and then
sleeps, and how long it spins depends on whether the process holds more OpenMP threads than there are cores. Where forwards run
in two threads it does: a team each, though only one of them ever works. It then spins a hundred times, which is nothing, and
barriers become system calls: every forward takes half as long again (docs/performance.md). Those of a drafter and an LLM of
llama.cpp run in one thread where they can (llama/turns.py); Torch's do not, nor what ran before there was an engine's thread.

OMP_WAIT_POLICY=ACTIVE lifts that to a thousand. GOMP_SPINCOUNT bounds what ACTIVE makes endless where there is one team, by
what libgomp itself takes by default: with a fifteenth of it a served LLM took a tenth longer for each token of policy `llm`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_HARD_PAUSE = 2  # of OpenMP's omp_pause_resource_t: threads end, and not only sleep
_WAITING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000"}


def release_team() -> None:
    """End the OpenMP threads that wait for the calling thread's next forward; it makes others if it ever runs one again."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another OpenMP, or one from before 5.0
            ctypes.CDLL("libgomp.so.1").omp_pause_resource_all(_HARD_PAUSE)


def load_openmp() -> None:
    """Load libgomp, where it is what this system has, with waits that suit two models in a process.

    It reads its environment once, as it is loaded, so this comes before Torch and llama.cpp. Whoever has set one of the
    variables means it: then nothing is done. Child processes and other OpenMP libraries never see what is set here.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _WAITING):
        return
    os.environ.update(_WAITING)
    try:
        # Without one, llama.cpp was built with another OpenMP or with none.
        with contextlib.suppress(OSError):
            ctypes.CDLL("libgomp.so.1")
    finally:
        for name in _WAITING:
            del os.environ[name]
