"""By which clock seconds are counted."""

from __future__ import annotations

import time
from collections.abc import Callable

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def clocks(threads: int) -> dict[str, Callable[[], float]]:
    """Return the clocks that say something at so many threads a model.

    By the processor's clock other work on the machine stretches nothing. With one thread a model, and all that is compared in
    one process, its ratios are what the wall of a quiet machine would show; with more, it counts threads that only wait.
    """
    return CLOCKS if threads == 1 else {"wall": CLOCKS["wall"]}
