"""What a process holds: memory, tasks, threads, descriptors; counted now and then, and held against a bound at the end."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Holdings:
    """Counts at one moment.

    Attributes:
        rss_mib: resident memory, MiB.
        objects: that the garbage collector knows.
        tasks: of the event loop.
        threads: of the process.
        files: open descriptors.
    """

    rss_mib: float
    objects: int
    tasks: int
    threads: int
    files: int

    @classmethod
    def now(cls) -> Holdings:
        """Count, after a collection; call from the event loop."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            rss_mib=pages * _PAGE_BYTES / 2**20,
            objects=len(gc.get_objects()),
            tasks=len(asyncio.all_tasks()),
            threads=threading.active_count(),
            files=len(list(Path("/proc/self/fd").iterdir())),
        )


# What may come on top of the first count and is no growth: pools that fill, connections that a collection has yet to close.
ALLOWED = Holdings(rss_mib=48.0, objects=30_000, tasks=64, threads=16, files=64)


def grown(first: Holdings, last: Holdings) -> list[str]:
    """Return a sentence for everything that has grown by more than is allowed."""
    found = []
    for name in Holdings.__slots__:
        before, after, most = (getattr(holdings, name) for holdings in (first, last, ALLOWED))
        if after - before > most:
            found.append(f"{name} grew from {before:,.0f} to {after:,.0f}, allowed are {most:,.0f} more")
    return found
