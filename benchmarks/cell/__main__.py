"""How much does one base station carry?   python -m benchmarks.cell overhead|llm|capacity

overhead   an LLM that costs nothing: the base station's own work, id-only drafts and dense32, batching on and off
llm        the bundled LLM, batching on and off, one weight type or several
capacity   devices that one base station holds at a set rate, by policy (benchmarks/cell/capacity.py)

Simulated devices on one event loop speak the real protocol over loopback to a base station in a process of its own. Each row is
one run of `--seconds`; p50 and p99 are from upload to verdict, at the device.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.cell import capacity
from benchmarks.cell.devices import Contract
from benchmarks.cell.run import Cell, run, run_cell
from benchmarks.cell.station import StationSettings, bundled_contract, station
from benchmarks.cell.traces import RECORDED, recorded, repeated, synthetic
from uihlm_proto.fingerprint import fingerprint

BUNDLED_V = 49_152
HEADER = (
    f"{'engine':22} {'codec':8} {'V':>6} {'batch':5} {'n':>4} {'rounds/s':>9} {'MB/s':>7} {'p50 ms':>8} {'p99 ms':>8}"
    f" {'p99/50':>6} {'queue':>7} {'fwd':>7} {'Jain':>6} {'parts':>6} {'cores':>5} {'dev.':>5} {'MiB':>6} {'health':>6}"
    f" {'own':>6}"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One cell and how it was set."""

    engine: str
    codec: str
    vocabulary_size: int
    batching: bool
    cell: Cell

    def __str__(self) -> str:
        cell = self.cell
        return (
            f"{self.engine:22} {self.codec:8} {self.vocabulary_size:6} {'on' if self.batching else 'off':5} {cell.sessions:4}"
            f" {cell.rounds_s:9.1f} {cell.upload_mb_s:7.1f} {cell.p50_ms:8.2f} {cell.p99_ms:8.2f}"
            f" {cell.p99_ms / cell.p50_ms:6.2f} {cell.queue_ms:7.2f} {cell.forward_ms:7.2f} {cell.fairness:6.3f}"
            f" {cell.parts:6.1f} {cell.busy:5.2f} {cell.devices_busy:5.2f} {cell.resident_mib:6.0f} {cell.health_ms:6.1f}"
            f" {cell.own_health_ms:6.1f}"
        )


def overhead(options: argparse.Namespace) -> Iterator[Row]:
    """Yield cells whose LLM costs nothing, after the floor: gRPC with nothing behind it."""
    contract = Contract(bytes(32), options.vocabulary, "coupled")
    traces = synthetic("coupled", options.vocabulary, options.prompt, options.answer)
    with station(StationSettings("bare")) as base:
        for sessions in options.sessions:
            cell = run(run_cell(base, contract, traces, sessions, options.seconds))
            yield Row("bare", "coupled", options.vocabulary, False, cell)
    for size, codec in ((options.vocabulary, "coupled"), (BUNDLED_V, "coupled"), (BUNDLED_V, "dense32")):
        contract = Contract(fingerprint(f"<{i}>" for i in range(size)), size, codec)
        traces = synthetic(codec, size, options.prompt, options.answer)
        for batching in options.batching:
            settings = StationSettings(
                vocabulary_size=size, max_sessions=max(options.sessions) + 1, max_context=2048, batching=batching
            )
            with station(settings) as base:
                for sessions in options.sessions:
                    cell = run(run_cell(base, contract, traces, sessions, options.seconds))
                    yield Row("table", codec, size, batching, cell)


def llm(options: argparse.Namespace) -> Iterator[Row]:
    """Yield cells of the bundled LLM."""
    # Long answers: prompts are not what is timed here.
    traces = repeated(recorded(options.traces)["hlm"], 10)
    for engine in options.engines:
        library, _, weights = engine.partition(":")
        contract = bundled_contract()
        for batching in options.batching:
            for sessions in options.sessions:
                settings = StationSettings(
                    library,
                    weights=weights or "auto",
                    threads=options.threads,
                    max_sessions=sessions + 1,
                    max_context=1024,
                    batching=batching,
                    chunk=options.chunk,
                )
                with station(settings) as base:
                    cell = run(run_cell(base, contract, traces, sessions, options.seconds))
                    yield Row(engine, contract.codec, contract.vocabulary_size, batching, cell)


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "llm", "capacity"])
    parser.add_argument("--sessions", type=_numbers, default=[1, 4, 16, 64, 256], help="devices, with commas")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--batching", type=_switches, default=[True, False], help="on, off, or on,off")
    parser.add_argument("--vocabulary", type=int, default=64, help="overhead: V of the small table")
    parser.add_argument("--prompt", type=int, default=32, help="overhead: ids of a prompt")
    parser.add_argument("--answer", type=int, default=256, help="overhead: uploads of an answer")
    parser.add_argument(
        "--engines", type=lambda text: text.split(","), default=["llama"], help="llm: as llama:f32,torch"
    )
    parser.add_argument("--threads", type=int, default=0, help="llm: of the engine; 0 takes every core")
    parser.add_argument("--chunk", type=int, default=64, help="llm: most positions of prompts in a forward")
    parser.add_argument("--traces", type=Path, default=RECORDED, help="llm: recorded uploads")
    parser.add_argument("--rate", type=float, default=4.0, help="capacity: tokens/s of a device")
    parser.add_argument("--tries", type=int, default=7, help="capacity: paced runs of a policy, at most")
    parser.add_argument("--policies", type=_names, default=capacity.POLICIES, help="capacity: with semicolons")
    parser.add_argument("--blocks", type=_numbers, default=list(capacity.BLOCKS), help="capacity: drafts an upload")
    parser.add_argument(
        "--air", action="store_true", help="capacity: every upload waits for its turn on the paper's band"
    )
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--figure", metavar="FILE", help="capacity: an SVG")
    options = parser.parse_args()
    if options.what == "capacity":
        capacity.measure(options)
        return
    print(HEADER)
    rows = []
    for row in (overhead if options.what == "overhead" else llm)(options):
        print(row, flush=True)
        rows.append(row)
    if options.json:
        # The rates of single devices are many and say what `fairness` says.
        content = [asdict(replace(row, cell=replace(row.cell, device_tokens_s=()))) for row in rows]
        Path(options.json).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def _names(text: str) -> list[str]:
    return [word for word in text.split(";") if word]


def _switches(text: str) -> list[bool]:
    return [word == "on" for word in text.split(",")]


if __name__ == "__main__":
    main()
