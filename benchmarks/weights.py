"""In which weight type should a CPU run the bundled models?   python -m benchmarks.weights

Each model, in llama.cpp and in Torch, in every type, as an engine that serves 1 … 64 sessions: one forward, one position a
session. All of a model's variants are loaded together and take turns size by size; the figure is the median over turns of the
speed relative to llama.cpp on the file as it is (q4_1). `serve --dtype measured` makes this choice for one machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import findings as report
from benchmarks.clocks import CLOCKS
from benchmarks.findings import Finding, ratios
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.llama_engine import LlamaEngine
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_cli.runs.memory import keep_large_blocks
from uihlm_models import machine
from uihlm_models.llama.kv_type import KvType
from uihlm_models.presets import Role
from uihlm_models.sources import ModelSource, resolve

BATCHES = (1, 2, 4, 8, 16, 32, 64)
OWN = "llama q4_1"
# What a table of findings shows; the file has every size.
SHOWN = (1, 16, 64)
_FLAGS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2")
_DEPTH = 8


def _variants(source: ModelSource, threads: int, sessions: int, torch: bool) -> dict[str, Callable[[], Any]]:
    def engine(backend: str, weight_type: str) -> Callable[[], Any]:
        settings = EngineSettings(backend, sessions, 2 * _DEPTH, threads, weight_type=weight_type, device_map="cpu")
        return lambda: load_engine(source, settings)

    def other_cache() -> Any:
        return LlamaEngine(
            source.path, max_sessions=sessions, max_context=2 * _DEPTH, n_threads=threads, kv_type=KvType.F16
        )

    found = {OWN: engine("llama", "auto"), f"{OWN}, KV f16": other_cache}
    found |= {f"llama {name}": engine("llama", name) for name in ("q8_0", "float16", "bfloat16", "float32")}
    if torch:
        found |= {f"torch {name}": engine("torch", name) for name in ("float32", "bfloat16")}
    return found


def _seconds(
    engines: Mapping[str, Any], batches: Sequence[int], turns: int, now: Callable[[], float]
) -> dict[str, dict[int, list[float]]]:
    prefix = [7 + place for place in range(_DEPTH)]
    for engine in engines.values():
        engine.forward([Work(session, 0, prefix, 1) for session in range(max(batches))])
    took: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in batches} for name in engines}
    for turn in range(turns + 1):
        for batch in batches:
            work = [Work(session, _DEPTH, [9], 1) for session in range(batch)]
            for name, engine in engines.items():
                began_s = now()
                engine.forward(work)
                if turn:
                    took[name][batch].append(now() - began_s)
        print(f"turn {turn} of {turns}", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return took


def _found(model: str, took: Mapping[str, Mapping[int, Sequence[float]]]) -> list[Finding]:
    own = took[OWN]
    return [
        ratios(f"{model}, {name}, {batch} session{'s' * (batch > 1)}: speed ÷ {OWN}", own[batch], took[name][batch])
        for name in took
        if name != OWN
        for batch in SHOWN
        if batch in own
    ]


def table(model: str, took: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """Return the median milliseconds of a forward, the least of each size in bold."""
    batches = list(took[OWN])
    ms = {name: [1e3 * float(np.median(own[batch])) for batch in batches] for name, own in took.items()}
    least = [min(column) for column in zip(*ms.values(), strict=True)]
    lines = [
        f"| {model}: forward, ms, of … sessions | " + " | ".join(map(str, batches)) + " |",
        "|---" + "|---:" * len(batches) + "|",
    ]
    for name, row in ms.items():
        cells = [
            f"**{value:.1f}**" if value == smallest else f"{value:.1f}"
            for value, smallest in zip(row, least, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu is for a busy machine, with --threads 1: what a core does in its own time (default wall)",
    )
    parser.add_argument("--no-torch", action="store_true", help="llama.cpp alone")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and turns: a look, not a measurement")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    keep_large_blocks()
    batches, turns = ((1, 4, 16), 3) if options.quick else (BATCHES, options.turns)
    flags = [flag for flag in _FLAGS if flag in machine.cpu_flags()]
    print(f"{machine.cpu_model()}: {', '.join(flags) or 'none of ' + ', '.join(_FLAGS)}")
    findings: list[Finding] = []
    document: dict[str, Any] = {"cpu": machine.cpu_model(), "flags": flags, "forward_ms": {}}
    for model, role in (("LLM", Role.TARGET), ("SLM", Role.DRAFTER)):
        makers = _variants(resolve("bundled", role), options.threads, max(batches), not options.no_torch)
        engines = {}
        for name, make in makers.items():
            print(f"loading {model} as {name} …", file=sys.stderr)
            engines[name] = make()
        took = _seconds(engines, batches, turns, CLOCKS[options.clock])
        for engine in engines.values():
            engine.close()
        del engines
        print("\n" + table(model, took) + "\n")
        findings += _found(model, took)
        document["forward_ms"][model] = {
            name: {str(batch): 1e3 * float(np.median(times)) for batch, times in own.items()}
            for name, own in took.items()
        }
    if options.json:
        report.write(options.json, findings, document)


if __name__ == "__main__":
    main()
