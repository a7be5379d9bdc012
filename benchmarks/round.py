"""What does a verification round cost besides the LLM?   python -m benchmarks.round

The bundled LLM is served on loopback by this process; a client uploads one draft a round. The overhead of a round is what it
takes besides the forward that the base station timed. Id-only drafts (`coupled`) give the cost of the machinery; `dense32` adds
196,608 bytes of distribution each way of a copy: encoding, protobuf, loopback, decoding, and the float64 residual.

`hlm` as the commands run it: the LLM's forward begins with the verdict before. From verdict to verdict nothing is hidden, the
draft's coding lies between; from the upload to its verdict is what the device waits for. These rounds follow on one another,
since whatever ran between two of them would run beside the forward.

`--no-run-on` is the papers' order: the forward begins with the upload, and a round is measured from there. In turn with
either, the bare trip (benchmarks/bare_trip.py): what a round takes on this machine with nothing in it to leave out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.bare_trip import BareTrip
from benchmarks.spread import Spread
from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_basestation.local import local_basestation
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.session import RunOn, Upload
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto.codecs import Codec, codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.settings import profile

GOAL_MS = 1.0
_PROMPT = [1, 2, 3, 4, 5]
# Rounds that are timed together.
_TURN = 10


class Trip(Protocol):
    """A way for a draft to the LLM and back."""

    def round(self, payload: bytes, run_on: RunOn = RunOn.NO) -> tuple[float, float]:
        """Return (seconds of one round, of the forward it judged); `run_on` is for the round after it."""


class Ours:
    """One session on the real stack, a draft a round."""

    def __init__(self, connection: Connection, contract: Contract, key: bytes) -> None:
        self._session = connection.session(contract)
        self._session.open(_PROMPT, key)
        self._session.ready()
        self._position, self._epoch = len(_PROMPT), 0

    def round(self, payload: bytes, run_on: RunOn = RunOn.NO) -> tuple[float, float]:
        """Return (seconds of one round, of the forward it judged); `run_on` is for the round after it."""
        started_s = time.perf_counter()
        upload = Upload(self._epoch, self._position, payloads=(payload,), run_on=run_on)
        verdict = self._session.verdict(self._session.upload(upload))
        took_s = time.perf_counter() - started_s
        self._epoch += verdict.accepted == 0
        self._position += 1
        return took_s, verdict.cost.forward_s

    def close(self) -> None:
        """End the session."""
        self._session.close()


class Payloads:
    """Drafts of one distribution, coded anew for each position as a device codes them."""

    def __init__(self, uplink: Codec, sampling: Sampling, key: bytes) -> None:
        self._codec, self._key = uplink, key
        # A drafter that knows nothing would be rejected each time; only the machinery is timed, so any x will do.
        logits = np.random.default_rng(0).normal(size=uplink.vocabulary_size).astype(np.float32) * 3
        self._x = sampling.distribution(logits)
        self._position = len(_PROMPT)

    def next(self) -> bytes:
        """Return the payload of the next position."""
        payload = self._codec.draft(self._x, self._key, self._position).encode()
        self._position += 1
        return payload


def one_round(trip: Trip, payloads: Payloads) -> tuple[float, float]:
    """Return (overhead, forward) of a round in the papers' order, milliseconds."""
    took_s, forward_s = trip.round(payloads.next())
    return 1e3 * (took_s - forward_s), 1e3 * forward_s


def rounds_run_on(trip: Trip, payloads: Payloads, count: int) -> tuple[float, float, float]:
    """Return (overhead, the same from verdict to verdict, forward) of rounds whose forwards began early, milliseconds a round.

    Of all of them together: a verdict that is seen late makes its own round long and the next one short by as much.
    """
    trip.round(payloads.next(), RunOn.NOW)
    rounds = []
    started_s = time.perf_counter()
    for _ in range(count):
        rounds.append(trip.round(payloads.next(), RunOn.NOW))
    all_s = time.perf_counter() - started_s
    # Nothing may run on beside what is measured next.
    trip.round(payloads.next())
    took_s, forward_s = (sum(times) for times in zip(*rounds, strict=True))
    return tuple(1e3 * t / count for t in (took_s - forward_s, all_s - forward_s, forward_s))


def _row(name: str, *cells: str) -> str:
    return "  ".join(
        [f"{name:28}", *(f"{cell:>{width}}" for cell, width in zip(cells, (23, 23, 6, 21, 21), strict=False))]
    )


@contextmanager
def ours(engine: Engine, uplink: Codec, sampling: Sampling, key: bytes) -> Iterator[Ours]:
    """Serve an engine on loopback and open a session there."""
    with local_basestation(engine) as address:
        link = LinkInterceptor(Link(profile("none"), SimulatedClock()), Ledger())
        with Connection(str(address), engine.vocabulary_size, [link]) as connection:
            trip = Ours(connection, Contract(engine.fingerprint, sampling, uplink), key)
            yield trip
            trip.close()


@dataclass(frozen=True, slots=True)
class Task:
    """What one process measures: two trips in one process would be two teams of OpenMP threads, which hold each other up."""

    trip: str
    codec: str
    seed: int
    rounds: int
    threads: int

    def run(self) -> tuple[list[tuple[float, float]], list[tuple[float, float, float]]]:
        """Return what `one_round` and `rounds_run_on` found."""
        # As the commands do.
        keep_large_blocks()
        engine = load_engine(resolve("bundled", Role.TARGET), EngineSettings(threads=self.threads))
        sampling, key = Sampling(0.6), session_key(self.seed, 0)
        uplink = codec(self.codec, engine.vocabulary_size)
        payloads = Payloads(uplink, sampling, key)
        trip: Trip
        with (BareTrip if self.trip == "bare" else ours)(engine, uplink, sampling, key) as trip:
            # The first round needs no forward: its row is left from the prefill.
            one_round(trip, payloads)
            waited = [one_round(trip, payloads) for _ in range(self.rounds)]
            return waited, [rounds_run_on(trip, payloads, _TURN) for _ in range(0, self.rounds, _TURN)]


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="of each kind in each repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    print(f"goal: ≤ {GOAL_MS} ms over the forward, as the commands run it")
    print(_row("ms over the forward", "", "bare trip", "ratio", "LLM forward", "the bare trip's"))
    figures = {}
    for name in ("coupled", "dense32"):
        found: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float, float]]]]
        found = {"ours": ([], []), "bare": ([], [])}
        for seed, trip in itertools.product(range(options.repetitions), found):
            task = Task(trip, name, seed, options.rounds, options.threads)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                for all_rounds, rounds in zip(found[trip], process.submit(task.run).result(), strict=True):
                    all_rounds.extend(rounds)
        (own, waited), (floor, bare_waited) = (
            map(Spread.of, zip(*rounds, strict=True)) for rounds, _ in found.values()
        )
        (late, between, early), (bare_late, bare_between, bare_early) = (
            map(Spread.of, zip(*rounds, strict=True)) for _, rounds in found.values()
        )
        for row, of_ours, of_bare, forward, bare_forward in (
            (f"{name}, verdict to verdict", between, bare_between, early, bare_early),
            ("  upload to verdict", late, bare_late, early, bare_early),
            ("  --no-run-on", own, floor, waited, bare_waited),
        ):
            ratio = f"{of_bare.median / of_ours.median:.2f}"
            print(_row(row, f"{of_ours:.3f}", f"{of_bare:.3f}", ratio, f"{forward:.2f}", f"{bare_forward:.2f}"))
        figures[name] = {
            "overhead_ms": between.median, "forward_ms": early.median, "upload_to_verdict_ms": late.median,
            "bare_overhead_ms": bare_between.median, "bare_forward_ms": bare_early.median,
            "no_run_on_overhead_ms": own.median, "no_run_on_forward_ms": waited.median, "bare_trip_ms": floor.median,
        }  # fmt: skip
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
