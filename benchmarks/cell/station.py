"""A base station in a process of its own, for the cell.   python -m benchmarks.cell.station '{"engine": "table", …}'

It says `ready PORT HEALTH_PORT` on stdout, answers each line on stdin with one line of JSON (forwards, parts, positions, CPU
seconds, resident bytes), and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks.cell.devices import Contract
from uihlm_proto.loops import new_event_loop

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class StationSettings:
    """What is served, and how.

    Attributes:
        engine: `table`, or a library (`llama`, `torch`) that runs the bundled LLM; `bare` is no base station at all: gRPC that
            answers every message with the same bytes.
        vocabulary_size: of the table.
        weights: type of the LLM's weights.
        threads: of the engine; 0 takes every core.
        max_sessions: devices at once.
        max_context: positions of one.
        batching: whether those who wait together go together.
        chunk: most positions of prompts in a forward.
        kv_bytes: most memory for caches.
    """

    engine: str = "table"
    vocabulary_size: int = 64
    weights: str = "auto"
    threads: int = 0
    max_sessions: int = 256
    max_context: int = 512
    batching: bool = True
    chunk: int = 64
    kv_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a station has done since it started.

    Attributes:
        forwards, parts, positions: of the engine.
        cpu_s: of the process.
        resident_bytes: now.
    """

    forwards: int
    parts: int
    positions: int
    cpu_s: float
    resident_bytes: int


class Station:
    """A running station, seen from the devices' side."""

    def __init__(self, process: subprocess.Popen[str], port: int, health_port: int) -> None:
        self._process = process
        self.target = f"127.0.0.1:{port}"
        self.health_target = f"127.0.0.1:{health_port}"

    def counts(self) -> Counts:
        """Ask it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("counts\n")
        self._process.stdin.flush()
        return Counts(**json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def station(settings: StationSettings) -> Iterator[Station]:
    """Start a station and yield it once it serves."""
    command = [sys.executable, "-m", "benchmarks.cell.station", json.dumps(asdict(settings))]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None and process.stdin is not None
        words = process.stdout.readline().split()
        if len(words) != 3 or words[0] != "ready":
            raise RuntimeError(f"the base station did not start: {' '.join(words)!r}; its words are above")
        try:
            yield Station(process, int(words[1]), int(words[2]))
        finally:
            process.stdin.close()


def load(settings: StationSettings) -> Any:
    """Return the engine of some settings."""
    if settings.engine == "table":
        from benchmarks.cell.engine import IdleEngine

        return IdleEngine(settings.vocabulary_size, settings.max_context)
    from uihlm_basestation.engines.loading import EngineSettings, load_engine
    from uihlm_models.presets import Role
    from uihlm_models.sources import resolve

    if settings.engine == "torch" and settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
    return load_engine(
        resolve("bundled", Role.TARGET),
        EngineSettings(
            backend=settings.engine,
            max_sessions=settings.max_sessions,
            max_context=settings.max_context,
            kv_bytes=settings.kv_bytes,
            threads=settings.threads,
            weight_type=settings.weights,
        ),
    )


def bundled_contract() -> Contract:
    """Return what devices of the bundled LLM say, whatever runs it."""
    engine = load(StationSettings("llama", max_sessions=1, max_context=64))
    found = Contract(engine.fingerprint, engine.vocabulary_size, "coupled")
    engine.close()
    return found


async def _serve(settings: StationSettings) -> None:
    from benchmarks.cell.engine import CountedEngine
    from uihlm_basestation.engines.engine import Engine
    from uihlm_basestation.observing.health import HealthPort
    from uihlm_basestation.server import BaseStation
    from uihlm_basestation.serving import Serving
    from uihlm_cli.runs.memory import keep_large_blocks

    keep_large_blocks()  # as the commands do
    if settings.engine == "bare":
        await _echo()
        return
    engine = CountedEngine(load(settings))
    serving = Serving(settings.chunk, None if settings.batching else 1)
    health_port = HealthPort("127.0.0.1", 0)
    base = BaseStation(cast(Engine, engine), settings.max_sessions, serving=serving, health_port=health_port)
    address = await base.start()
    ports = (address.port, health_port.address.port)
    await _answer_until_told(ports, lambda: (engine.forwards, engine.parts, engine.positions))
    await base.stop(grace_s=0.0)
    health_port.close()


async def _echo() -> None:
    """Serve the floor: what grpc.aio takes for a message each way, with nothing between."""
    import grpc
    from grpc_health.v1 import health, health_pb2_grpc

    from uihlm_proto.v1 import verification_pb2 as pb

    ready = pb.VerifyResponse(ready=pb.Ready(round=1)).SerializeToString()
    verdict = pb.VerifyResponse(
        verdict=pb.Verdict(round=1, token_id=1, y_d=[0.5], cost=pb.Cost(forward_s=0.1, forwards=1, positions=1))
    ).SerializeToString()

    async def verify(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        answer = ready
        async for _ in requests:
            yield answer
            answer = verdict

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(verify)
    methods = grpc.method_handlers_generic_handler("uihlm.v1.VerificationService", {"Verify": handler})
    server.add_generic_rpc_handlers((methods,))
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await _answer_until_told((port, port), lambda: (0, 0, 0))
    await server.stop(None)


async def _answer_until_told(ports: tuple[int, int], done: Callable[[], tuple[int, int, int]]) -> None:
    print("ready", *ports, flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        used = resource.getrusage(resource.RUSAGE_SELF)
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
        print(json.dumps(asdict(Counts(*done(), used.ru_utime + used.ru_stime, resident))), flush=True)


def main() -> None:
    """Serve."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(StationSettings(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
