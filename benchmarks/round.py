"""What does a verification round cost besides the LLM?   python -m benchmarks.round

The bundled LLM is served on loopback by this process; a client uploads one draft a round. The overhead of a round is its
time at the client, from the call that uploads to the verdict in hand, less the forward the base station timed. Id-only
drafts (`coupled`) give the cost of the machinery; `dense32` adds 196,608 bytes of distribution each way of a copy: encoding,
protobuf, loopback, decoding, and the float64 residual. Beside each, in turn, the bare trip (benchmarks/bare_trip.py): what a
round takes on this machine with nothing in it that could be left out.
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
from uihlm_device.stream.client import Connection, Contract
from uihlm_device.stream.session import Upload
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


def rounds(connection: Connection, contract: Contract, count: int, key: bytes) -> tuple[list[float], list[float]]:
    """Return (overhead, forward) in milliseconds of `count` rounds of one draft each."""
    uplink = contract.codec
    session = connection.session(contract)
    prompt = [1, 2, 3, 4, 5]
    session.open(prompt, key)
    session.ready()
    # A drafter that knows nothing would be rejected each time; only the machinery is timed, so any x will do.
    x = contract.sampling.distribution(_logits(uplink.vocabulary_size))
    position, epoch = len(prompt), 0
    overhead_ms, forward_ms = [], []
    for _ in range(count):
        payload = uplink.draft(x, key, position).encode()
        started_s = time.perf_counter()
        verdict = session.verdict(session.upload(Upload(epoch, position, payloads=(payload,))))
        took_s = time.perf_counter() - started_s
        epoch += verdict.accepted == 0
        position += 1
        overhead_ms.append(1e3 * (took_s - verdict.cost.forward_s))
        forward_ms.append(1e3 * verdict.cost.forward_s)
    session.close()
    # The first round needs no forward: its row is left from the prefill.
    return overhead_ms[1:], forward_ms[1:]


def _logits(vocabulary_size: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=vocabulary_size).astype(np.float32) * 3


def bare(trip: BareTrip, uplink: Codec, sampling: Sampling, count: int) -> list[float]:
    """Return the overhead in milliseconds of `count` bare trips."""
    x = sampling.distribution(_logits(uplink.vocabulary_size))
    overhead_ms = []
    for position in range(count):
        payload = uplink.draft(x, bytes(KEY_BYTES), position).encode()
        took_s, forward_s = trip.round(payload)
        overhead_ms.append(1e3 * (took_s - forward_s))
    return overhead_ms[1:]


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
    ours_ms: dict[str, list[float]] = {name: [] for name in names}
    bare_ms: dict[str, list[float]] = {name: [] for name in names}
    forward_ms: dict[str, list[float]] = {name: [] for name in names}
    with local_basestation(engine) as address:
        link = LinkInterceptor(Link(profile("none"), SimulatedClock()), Ledger())
        with Connection(str(address), engine.vocabulary_size, [link]) as connection:
            for repetition, name in itertools.product(range(options.repetitions), names):
                uplink = codec(name, engine.vocabulary_size)
                contract = Contract(engine.fingerprint, sampling, uplink)
                overhead, forward = rounds(connection, contract, options.rounds, session_key(repetition, 0))
                ours_ms[name] += overhead
                forward_ms[name] += forward
                with BareTrip(engine, uplink, sampling) as trip:
                    bare_ms[name] += bare(trip, uplink, sampling, options.rounds)
    print(f"goal: overhead ≤ {GOAL_MS} ms (coupled)")
    print(f"{'codec':10} {'overhead ms':>24} {'bare trip ms':>24} {'LLM forward ms':>24}")
    figures = {}
    for name in names:
        ours, floor, forward_time = Spread.of(ours_ms[name]), Spread.of(bare_ms[name]), Spread.of(forward_ms[name])
        print(f"{name:10} {ours:>24.3f} {floor:>24.3f} {forward_time:>24.2f}")
        figures[name] = {
            "overhead_ms": ours.median, "bare_trip_ms": floor.median, "forward_ms": forward_time.median
        }  # fmt: skip
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
