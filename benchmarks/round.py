"""What does a verification round cost besides the LLM?   python -m benchmarks.round

The bundled LLM is served on loopback by this process; a client uploads one draft a round. The overhead of a round is what it
takes besides the forward that the base station timed. Id-only drafts (`coupled`) give the cost of the machinery; `dense32` adds
196,608 bytes of distribution each way of a copy: encoding, protobuf, loopback, decoding, and the float64 residual.

`hlm` as the commands run it: the LLM's forward begins with the verdict before. From verdict to verdict nothing is hidden, the
draft's coding lies between; from the upload to its verdict is what the device waits for. These rounds follow on one another,
since whatever ran between two of them would run beside the forward.

`--no-run-on` is the papers' order: the forward begins with the upload, and a round is measured from there. Beside each of
these, in turn, the bare trip (benchmarks/bare_trip.py): what a round takes on this machine with nothing in it to leave out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.bare_trip import BareTrip
from benchmarks.spread import Spread
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_basestation.local import local_basestation
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.session import RunOn, Upload
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto.codecs import Codec, codec
from uihlm_proto.randomness import KEY_BYTES, session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.settings import profile

GOAL_MS = 1.0
_PROMPT = [1, 2, 3, 4, 5]


class Ours:
    """One session on the real stack, a draft a round."""

    def __init__(self, connection: Connection, contract: Contract, key: bytes) -> None:
        self._codec, self._key = contract.codec, key
        self._session = connection.session(contract)
        self._session.open(_PROMPT, key)
        self._session.ready()
        # A drafter that knows nothing would be rejected each time; only the machinery is timed, so any x will do.
        self._x = contract.sampling.distribution(_logits(contract.codec.vocabulary_size))
        self._position, self._epoch = len(_PROMPT), 0

    def round(self, run_on: RunOn = RunOn.NO) -> tuple[float, float]:
        """Return (overhead, forward) of one round, milliseconds; `run_on` is for the round after it."""
        payload = self._codec.draft(self._x, self._key, self._position).encode()
        started_s = time.perf_counter()
        upload = Upload(self._epoch, self._position, payloads=(payload,), run_on=run_on)
        verdict = self._session.verdict(self._session.upload(upload))
        took_s = time.perf_counter() - started_s
        self._epoch += verdict.accepted == 0
        self._position += 1
        return 1e3 * (took_s - verdict.cost.forward_s), 1e3 * verdict.cost.forward_s

    def rounds_run_on(self, count: int) -> list[tuple[float, float, float]]:
        """Return (overhead, the same from verdict to verdict, forward) of rounds whose forwards began early, milliseconds."""
        self.round(RunOn.NOW)
        found = []
        for _ in range(count):
            started_s = time.perf_counter()
            overhead_ms, forward_ms = self.round(RunOn.NOW)
            found.append((overhead_ms, 1e3 * (time.perf_counter() - started_s) - forward_ms, forward_ms))
        # Nothing may run on beside what is measured next.
        self.round()
        return found

    def close(self) -> None:
        """End the session."""
        self._session.close()


def _logits(vocabulary_size: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=vocabulary_size).astype(np.float32) * 3


def turns(
    ours: Ours, trip: BareTrip, uplink: Codec, sampling: Sampling, count: int
) -> list[tuple[float, float, float]]:
    """Return (overhead of ours, of a bare trip, forward) in milliseconds of `count` rounds of each, in turn."""
    x = sampling.distribution(_logits(uplink.vocabulary_size))
    found = []
    for position in range(count):
        overhead_ms, forward_ms = ours.round()
        payload = uplink.draft(x, bytes(KEY_BYTES), position).encode()
        took_s, bare_forward_s = trip.round(payload)
        found.append((overhead_ms, 1e3 * (took_s - bare_forward_s), forward_ms))
    # The first round needs no forward: its row is left from the prefill.
    return found[1:]


def _row(name: str, *cells: str) -> str:
    return "  ".join([f"{name:28}", *(f"{cell:>{width}}" for cell, width in zip(cells, (24, 24, 6, 24), strict=False))])


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="of each kind in each repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    # As the commands do.
    keep_large_blocks()
    engine = load_engine(resolve("bundled", Role.TARGET), EngineSettings(threads=options.threads))
    sampling = Sampling(0.6)
    names = ("coupled", "dense32")
    times_ms: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    run_on_ms: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    with local_basestation(engine) as address:
        link = LinkInterceptor(Link(profile("none"), SimulatedClock()), Ledger())
        with Connection(str(address), engine.vocabulary_size, [link]) as connection:
            for repetition, name in itertools.product(range(options.repetitions), names):
                uplink = codec(name, engine.vocabulary_size)
                contract = Contract(engine.fingerprint, sampling, uplink)
                ours = Ours(connection, contract, session_key(repetition, 0))
                with BareTrip(engine, uplink, sampling) as trip:
                    times_ms[name] += turns(ours, trip, uplink, sampling, options.rounds)
                run_on_ms[name] += ours.rounds_run_on(options.rounds)
                ours.close()
    print(f"goal: ≤ {GOAL_MS} ms over the forward, as the commands run it")
    print(_row("ms over the forward", "", "bare trip, ms", "ratio", "LLM forward, ms"))
    figures = {}
    for name in names:
        late, between, forward_early = map(Spread.of, zip(*run_on_ms[name], strict=True))
        print(_row(f"{name}, verdict to verdict", f"{between:.3f}", "", "", f"{forward_early:.2f}"))
        print(_row("  upload to verdict", f"{late:.3f}"))
        own, floor, forward_time = map(Spread.of, zip(*times_ms[name], strict=True))
        ratio = floor.median / own.median
        print(_row("  --no-run-on", f"{own:.3f}", f"{floor:.3f}", f"{ratio:.2f}", f"{forward_time:.2f}"))
        figures[name] = {
            "overhead_ms": between.median, "upload_to_verdict_ms": late.median, "forward_ms": forward_early.median,
            "no_run_on_overhead_ms": own.median, "no_run_on_forward_ms": forward_time.median, "bare_trip_ms": floor.median,
        }  # fmt: skip
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
