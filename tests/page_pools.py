"""Runs `uihlm-bs serve --engine-pool ray …` of a page on fake engines: to its ready line, then told to stop, exit code 0.

A replica is a process of Ray's own, so nothing that is patched in this one reaches it: the command runs in a process that
has what a replica loads replaced (ray_engines.py). `--ray-address auto` joins a Ray that is started here for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from ray_engines import TRACES

PATIENCE_S = 180.0
READY = re.compile(r"ready: (\d+) x fake on \[::\]:\d+\n")
# A share of a core for each, no GPU, a free port.
SMALL = ("--cpus-per-replica", "0.1", "--gpus-per-replica", "0", "--port", "0", "--grace-s", "1")
MOST_REPLICAS = 2
DRIVER = """
import ray_engines
from uihlm_basestation.pool import replica
replica.load_named = ray_engines.load
from uihlm_cli import basestation
basestation.main()
"""


def run(arguments: list[str]) -> str | None:
    """Serve, and end; what went wrong, if anything."""
    replicas = 1
    if "--replicas" in arguments:
        place = arguments.index("--replicas") + 1
        replicas = min(MOST_REPLICAS, int(arguments[place]))
        arguments = [*arguments[:place], str(replicas), *arguments[place + 1 :]]
    joins = "--ray-address" in arguments
    with tempfile.TemporaryDirectory() as folder, _cluster(Path(folder)) if joins else _none() as more:
        traces = Path(folder) / "traces"
        traces.mkdir()
        return _served([*arguments, *SMALL], {**os.environ, TRACES: str(traces), **more}, replicas)


def _served(arguments: list[str], environment: Mapping[str, str], replicas: int) -> str | None:
    command = [sys.executable, "-c", DRIVER, *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            # To it alone: Ray's own processes end with an orderly end of this one.
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.stdout.close()
        ready = READY.fullmatch(line)
        if ready and int(ready[1]) == replicas and process.returncode == 0:
            return None
        errors.seek(0)
        return f"exit code {process.returncode}, said {line!r}: {errors.read()[-1500:]}"


@contextlib.contextmanager
def _none() -> Iterator[dict[str, str]]:
    yield {}


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A Ray of one node, as `ray start --head` makes it; yields the variables by which `auto` finds it and no other."""
    options = ["--num-cpus", "2", "--port", "0", "--include-dashboard", "false", "--disable-usage-stats", "--block"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--temp-dir", str(folder), *options]
    # A token of its own: where Ray has ever run, a cluster asks for the one it left, and whoever joins must be told so.
    joining = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Replicas are its processes: what they load is found by its path, and their traces go where it is told.
    environment = {**os.environ, TRACES: str(folder / "traces"), **joining}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, text=True, env=environment)
        try:
            yield {"RAY_ADDRESS": _address(said, process), **joining}
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()


def _address(said: IO[str], process: subprocess.Popen[str]) -> str:
    """Where it says that others join it, once it runs."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        said.seek(0)
        text = said.read()
        found = re.search(r"--address='([^']+)'", text)
        if found and "Ray runtime started" in text:
            return found[1]
        time.sleep(0.2)
    raise RuntimeError(f"Ray does not start: {text[-1500:]}")
