"""What does the paper's drafter take on this CPU?   python -m benchmarks.tiny_llama

A GGUF of TinyLlama-1.1B's shape with random 4-bit weights (benchmarks/random_gguf.py; 0.7 GB, written to a temporary folder and
deleted) in llama.cpp: tokens a second of a bare loop, and of a token of policy `ui` the share that goes into reading an
attention row (a forward with the callback and the row, less one without) and into u. What is timed takes turns.

--tiny tries the script itself: its figures mean nothing.

Random logits are u's worst case: real ones fall into fewer bins and take a third of the time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import findings as report
from benchmarks.clocks import clocks
from benchmarks.findings import Finding, ratios
from benchmarks.peers.alone import Alone
from benchmarks.random_gguf import TINY_LLAMA, Shape, write
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.rules.importance import Readout, importance, wants
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.rules.uncertainty import Logits, expected
from uihlm_models.sources import Kind, ModelSource
from uihlm_proto.codecs import codec
from uihlm_proto.sampling import Sampling

CONTEXT = 128
TINY = Shape("tiny", 512, 256, 256, 2, 4, 2)
_KEY = bytes(16)


def measure(path: Path, threads: int, turns: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each part of a token, turn by turn, by each clock."""
    read_clocks = clocks(threads)
    drafters = Drafters(ModelSource(Kind.GGUF, path, path.stem), DrafterSettings(threads=threads))
    fused = drafters.for_policy(policy("slm", PolicySettings()))
    read = drafters.for_policy(policy("ui", PolicySettings()))
    bare = Alone(path, threads)
    ids = [259 + place % 16 for place in range(CONTEXT)]
    bare.prefill(ids)
    for drafter in (fused, read):
        drafter.forward(0, ids)
    uplink, sampling, row = codec("coupled", fused.vocabulary_size), Sampling(0.6), wants(Readout.HEADS)
    took: dict[str, dict[str, list[float]]] = {clock: {} for clock in read_clocks}

    def draw(z: Logits) -> object:
        return uplink.draft(sampling.distribution(z), _KEY, CONTEXT)

    def timed(name: str, run: Callable[[], Any]) -> Any:
        began_s = {clock: now() for clock, now in read_clocks.items()}
        value = run()
        for clock, now in read_clocks.items():
            took[clock].setdefault(name, []).append(now() - began_s[clock])
        return value

    for turn in range(turns + 1):
        print(f"turn {turn} of {turns}", end="\r", file=sys.stderr, flush=True)
        token = 300 + turn
        timed("bare", partial(bare.write_one, token, CONTEXT))
        timed("fused", partial(fused.forward, CONTEXT, [token]))
        record = timed("read", partial(read.forward, CONTEXT, [token], row))
        timed("draw", partial(draw, record.logits))
        timed("u", partial(expected, record.logits, token))
        timed("importance", partial(importance, record.attention, 1.0))
    print(file=sys.stderr)
    return {clock: {name: times[1:] for name, times in own.items()} for clock, own in took.items()}


def found(took: dict[str, list[float]], shape: Shape) -> list[Finding]:
    """Return the findings."""
    parts = {name: np.array(own) for name, own in took.items()}
    token = parts["read"] + parts["draw"] + parts["u"] + parts["importance"]
    name = shape.name
    return [
        Finding.of(f"{name}, 4 bits: bare loop", list(1.0 / parts["bare"]), "tok/s"),
        Finding.of(f"{name}: token of `ui` in parts", list(1.0 / token), "tok/s"),
        ratios(f"{name}: `ui` ÷ bare loop", list(1.0 / token), list(1.0 / parts["bare"])),
        ratios(f"{name}: reading attention, share of a token", list(parts["read"] - parts["fused"]), list(token)),
        ratios(f"{name}: importance, share of a token", list(parts["importance"]), list(token)),
        ratios(f"{name}: uncertainty, share of a token", list(parts["u"]), list(token)),
    ]


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer turns: a look, not a measurement")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape: tries the script, measures nothing")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    shape = TINY if options.tiny else TINY_LLAMA
    keep_large_blocks()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny-llama-random.gguf"
        print(f"writing {shape.name} weights …", file=sys.stderr)
        write(path, shape)
        took = measure(path, options.threads, 10 if options.quick else options.turns)
    findings: list[Finding] = []
    for clock, own in took.items():
        findings += [one if clock == "wall" else replace(one, what=f"{clock}: {one.what}") for one in found(own, shape)]
    print(report.table(findings))
    ms = {clock: {name: 1e3 * float(np.median(times)) for name, times in own.items()} for clock, own in took.items()}
    if options.json:
        report.write(options.json, findings, {"ms": ms})


if __name__ == "__main__":
    main()
