"""A fake base station in processes of its own, which die and start again in a moment.

Run as a program it is a nursery: it has everything imported, and for each line on stdin forks a base station on the given
port. A test kills what it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fakes import FakeEngine
from outage_ways import V, Y
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.server import serve
from uihlm_proto.addresses import Address

FORWARD_S = 0.002


class UnhurriedEngine(FakeEngine):
    """Slow enough to be killed in the middle of a forward."""

    def forward(self, work: Sequence[Work]) -> list[np.ndarray]:
        time.sleep(FORWARD_S)
        return super().forward(work)


class Nursery:
    """Base stations on one port, one after the other."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", _lasting_port())
        paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.address.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self.started = 0
        self.pid = 0

    def start(self) -> None:
        """Start a base station and return when it serves."""
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        self.pid = int(self._process.stdout.readline())
        self.started += 1

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def __enter__(self) -> Nursery:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        self._process.wait(10)
        self._process.stdout.close()


def _lasting_port() -> int:
    """A free port that no connection is given for its own end: while nobody listens, it must stay free."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Killer:
    """Kills the base station of a nursery again and again, as soon as it has lived for a while."""

    def __init__(self, nursery: Nursery, kills: int, lives_s: Sequence[float], number: int = signal.SIGKILL) -> None:
        self._nursery, self._kills, self._lives_s, self._number = nursery, kills, lives_s, number
        self.killed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while self.killed < self._kills:
            time.sleep(self._lives_s[self.killed % len(self._lives_s)])
            self._nursery.kill(self._number)
            self.killed += 1
            self._nursery.start()

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.join(60)


def main() -> None:
    """Fork a base station for every line on stdin; it tells its number on stdout once it serves."""
    port, child = int(sys.argv[1]), 0
    for _ in sys.stdin:
        if child:
            # One that dies holds the port for a moment.
            os.waitpid(child, 0)
        if (child := os.fork()) == 0:
            engine = UnhurriedEngine(Y, V)
            ready = lambda address: print(os.getpid(), flush=True)  # noqa: E731
            asyncio.run(serve(engine, "127.0.0.1", port, 16, 10.0, ready))
            os._exit(0)


if __name__ == "__main__":
    main()
