"""One cell: a base station, n devices, a few seconds; and what comes out."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.cell.devices import FREE, Air, Contract, Device, Pace, Tally, Window
from benchmarks.cell.health import health_checks
from benchmarks.cell.station import Counts, Station
from benchmarks.cell.traces import Trace
from uihlm_proto.loops import new_event_loop

# Streams open and batches form before it counts.
_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Cell:
    """What came out.

    Attributes:
        sessions: devices.
        rounds_s: verdicts a second.
        tokens_s: tokens a second, of all devices.
        p50_ms, p99_ms: from upload to verdict.
        queue_ms, forward_ms: medians of what the base station says of each verdict.
        fairness: Jain's index of the devices' verdicts, (Σn)² ÷ (N · Σn²): 1 is equal.
        parts: sessions in a forward, mean.
        positions: in a forward, mean.
        busy: cores that the base station took.
        devices_busy: cores that this process took.
        resident_mib: memory of the base station.
        health_ms: the slowest of the health checks made throughout, at the port of the devices.
        own_health_ms: the same at a port of their own; without a base station (`bare`) there is none.
        upload_mb_s: bytes of the uploads.
        opening_ms: from the end of an answer to the session of the next, its prompt run; mean.
        device_tokens_s: of each device, while it has a session.
    """

    sessions: int
    rounds_s: float
    tokens_s: float
    p50_ms: float
    p99_ms: float
    queue_ms: float
    forward_ms: float
    fairness: float
    parts: float
    positions: float
    busy: float
    devices_busy: float
    resident_mib: float
    health_ms: float
    own_health_ms: float
    upload_mb_s: float
    opening_ms: float
    device_tokens_s: tuple[float, ...]


def jain(values: Sequence[float]) -> float:
    """Return Jain's fairness index of some values: 1 where all are equal, 1/N where one has everything."""
    x = np.asarray(values, np.float64)
    squares = float((x * x).sum())
    return float(x.sum()) ** 2 / (x.size * squares) if squares else 1.0


def run(cell: Coroutine[Any, Any, Cell]) -> Cell:
    """Run one cell on the loop that devices and base stations run on."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(cell)


async def run_cell(
    station: Station,
    contract: Contract,
    traces: Sequence[Trace],
    sessions: int,
    seconds: float,
    pace: Pace = FREE,
    air: Air | None = None,
) -> Cell:
    """Let `sessions` devices replay traces for some seconds."""
    window = Window()
    opened = asyncio.Barrier(sessions + 1)
    devices = [Device(station.target, contract, traces, n, pace, air) for n in range(sessions)]
    # One that fails would leave the others at the barrier.
    with health_checks(station.target, station.health_target) as health:
        async with asyncio.TaskGroup() as group:
            for device in devices:
                group.create_task(device.run(window, opened))
            await opened.wait()
            window.start_s = time.perf_counter() + _WARM_UP_S
            window.end_s = window.start_s + seconds
            await asyncio.sleep(_WARM_UP_S)
            checks = group.create_task(asyncio.to_thread(health.during, seconds))
            before, own_before_s = await asyncio.to_thread(station.counts), _own_cpu_s()
            await asyncio.sleep(window.end_s - time.perf_counter())
            after, own_after_s = await asyncio.to_thread(station.counts), _own_cpu_s()
    tallies = [device.tally for device in devices]
    return _cell(tallies, seconds, before, after, checks.result(), own_after_s - own_before_s)


def _cell(
    tallies: Sequence[Tally],
    seconds: float,
    before: Counts,
    after: Counts,
    checks: Sequence[Sequence[float]],
    own_s: float,
) -> Cell:
    rounds = [len(tally.verdict_s) for tally in tallies]
    forwards = max(1, after.forwards - before.forwards)

    def median_ms(values: Sequence[float], share: float = 50.0) -> float:
        return 1e3 * float(np.percentile(values, share)) if len(values) else float("nan")

    verdict_s = [s for tally in tallies for s in tally.verdict_s]
    opening_s = [s for tally in tallies for s in tally.opening_s]
    return Cell(
        sessions=len(tallies),
        rounds_s=sum(rounds) / seconds,
        tokens_s=sum(tally.tokens for tally in tallies) / seconds,
        p50_ms=median_ms(verdict_s),
        p99_ms=median_ms(verdict_s, 99.0),
        queue_ms=median_ms([s for tally in tallies for s in tally.queue_s]),
        forward_ms=median_ms([s for tally in tallies for s in tally.forward_s]),
        fairness=jain(rounds),
        parts=(after.parts - before.parts) / forwards,
        positions=(after.positions - before.positions) / forwards,
        busy=(after.cpu_s - before.cpu_s) / seconds,
        devices_busy=own_s / seconds,
        resident_mib=after.resident_bytes / 2**20,
        health_ms=1e3 * max(checks[0], default=float("nan")),
        own_health_ms=1e3 * max(checks[1], default=float("nan")),
        upload_mb_s=sum(tally.sent_bytes for tally in tallies) / seconds / 1e6,
        opening_ms=1e3 * float(np.mean(opening_s)) if opening_s else 0.0,
        device_tokens_s=tuple(tally.tokens / max(seconds - tally.away_s, 1e-9) for tally in tallies),
    )


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
