"""How long does a health check take?   python -m benchmarks.cell.health TARGET …

A process of its own, as an orchestrator's probe is: on the devices' event loop a check would wait for them as well. It says
`ready` once every target has answered a first check; to each line with a number of seconds it answers, after that time, with
one line of JSON: what the checks of each target made meanwhile took.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_EVERY_S = 0.1


class HealthChecks:
    """A running probe, seen from the devices' side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def during(self, seconds: float) -> list[list[float]]:
        """Return, after so many seconds, what each check of each target took; RuntimeError if the probe has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the health checks ended before their time; their words are above")
        found: list[list[float]] = json.loads(line)
        return found


@contextlib.contextmanager
def health_checks(*targets: str) -> Iterator[HealthChecks]:
    """Start a probe and yield it once it has been answered."""
    command = [sys.executable, "-m", "benchmarks.cell.health", *targets]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None and process.stdin is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the base station answers no health check; the reason is above")
        try:
            yield HealthChecks(process)
        finally:
            process.stdin.close()


def main() -> None:
    """Check for as long as stdin asks."""
    with contextlib.ExitStack() as stack:
        channels = [grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) for target in sys.argv[1:]]
        stubs = [health_pb2_grpc.HealthStub(stack.enter_context(channel)) for channel in channels]
        request = health_pb2.HealthCheckRequest()
        for stub in stubs:
            stub.Check(request, wait_for_ready=True, timeout=60.0)
        print("ready", flush=True)
        for line in sys.stdin:
            until_s = time.perf_counter() + float(line)
            took_s: list[list[float]] = [[] for _ in stubs]
            while time.perf_counter() < until_s:
                for stub, own_s in zip(stubs, took_s, strict=True):
                    started_s = time.perf_counter()
                    stub.Check(request)
                    own_s.append(time.perf_counter() - started_s)
                time.sleep(_EVERY_S)
            print(json.dumps(took_s), flush=True)


if __name__ == "__main__":
    main()
