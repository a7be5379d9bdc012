"""Every figure of docs/performance.md in one run, as ratios beside their goals.   python -m benchmarks --json FILE

    device-loop   the device's loop against a bare llama.cpp loop
    round         what of a verification round is not the LLM
    peers         the pair in every way there is: ours, transformers, a unary loop, the LLM alone
    weights       weight types of both models, 1 … 64 sessions
    start-up      --help, chat's first token, the wheels of the base install
    tiny-llama    a random 4-bit model of TinyLlama's shape on the CPU
    real-size     LLaMA-2-7B's shape on a GPU; left out, with a word, where there is none

Each runs in a process of its own, one after another; within each, what is compared takes turns. FILE is written after each, and
what it holds already is not measured again (--again does). The table goes to stdout, progress to stderr. Ten minutes or so on
two idle cores; other work on the machine widens the intervals.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import findings as report
from benchmarks.findings import Finding

Document = Mapping[str, Any]


def _of_device_loop(document: Document) -> list[Finding]:
    from benchmarks.device_loop import GOALS

    return [
        Finding(f"{name} loop ÷ bare llama.cpp loop", own["ratio"], own["low"], own["high"], goal=GOALS.get(name))
        for name, own in document.items()
        if name != "floor"
    ]


# What of a round may not be model time.
_ROUND_GOALS = {"coupled": 0.05, "dense32": 0.15}


def _of_round(document: Document) -> list[Finding]:
    from benchmarks.round import GOAL_MS

    found = []
    for name, own in document.items():
        # The papers' order cannot reach the goals of a round: a bare trip takes more.
        for way, kind, goals in (
            ("", "", (_ROUND_GOALS[name], GOAL_MS)),
            (", --no-run-on", "no_run_on_", (None, None)),
        ):
            over_ms = own[f"{kind}overhead_ms"]
            share = over_ms / (over_ms + own[f"{kind}forward_ms"])
            what = f"round, {name}{way}"
            found += [
                Finding(f"{what}: share that is not the LLM", share, share, share, goal=goals[0], at_most=True),
                Finding(f"{what}: overhead", over_ms, over_ms, over_ms, "ms", goal=goals[1], at_most=True),
            ]
        bare_ms = own["bare_overhead_ms"] + own["bare_forward_ms"]
        share, ratio = own["bare_overhead_ms"] / bare_ms, bare_ms / (own["overhead_ms"] + own["forward_ms"])
        found += [
            Finding(f"round, {name}: that share of a bare round", share, share, share),
            Finding(f"round, {name}: a bare round ÷ ours", ratio, ratio, ratio, goal=0.95),
        ]
        ratio = own["bare_trip_ms"] / own["no_run_on_overhead_ms"]
        found.append(Finding(f"round, {name}, --no-run-on: bare trip ÷ overhead", ratio, ratio, ratio, goal=0.95))
    return found


@dataclass(frozen=True, slots=True)
class Figure:
    """A benchmark of its own.

    Attributes:
        module: under `benchmarks`.
        quick: its flags for a look.
        full: its flags for a measurement.
        adapt: makes findings of a document that holds none itself.
        gpu: whether it needs one.
        threads: whether it takes --threads.
    """

    module: str
    quick: tuple[str, ...] = ("--quick",)
    full: tuple[str, ...] = ()
    adapt: Callable[[Document], list[Finding]] | None = None
    gpu: bool = False
    threads: bool = True

    def findings(self, document: Document) -> list[Finding]:
        """Return what a run found."""
        if "findings" in document or self.adapt is None:
            return report.read(document)
        return self.adapt(document)


FIGURES = {
    "device-loop": Figure(
        "device_loop", ("--repetitions", "2", "--tokens", "48"), ("--repetitions", "8"), _of_device_loop
    ),
    "round": Figure("round", ("--repetitions", "1", "--rounds", "30"), ("--repetitions", "2"), _of_round),
    "peers": Figure("peers"),
    "weights": Figure("weights"),
    "start-up": Figure("startup", threads=False),
    "tiny-llama": Figure("tiny_llama"),
    "real-size": Figure("real_size", ("--turns", "5"), gpu=True, threads=False),
}


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _run(figure: Figure, flags: tuple[str, ...]) -> Document:
    """Run one benchmark and return what it wrote; CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{figure.module}", *flags, "--json", str(path)]
        # Its own table is progress here: stdout is for the table of all.
        subprocess.run(command, check=True, stdout=sys.stderr.fileno())
        document: Document = json.loads(path.read_text(encoding="utf-8"))
        return document


def _save(path: Path, document: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1), encoding="utf-8")
    part.replace(path)


def _load(path: Path, quick: bool) -> dict[str, Any]:
    """Return what a file holds; a look and a measurement are not put together."""
    if not path.exists():
        return {"quick": quick, "figures": {}}
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if document.get("quick") is not quick or "figures" not in document:
        raise ValueError(
            f"{path} holds {'a look (--quick)' if document.get('quick') else 'something else'}: name another file, or "
            "give --quick as before"
        )
    return document


def _merged(document: Mapping[str, Any], chosen: list[str]) -> str:
    """Return the tables of what is known."""
    parts = [
        report.table(report.read(document["figures"][name]), name) for name in chosen if name in document["figures"]
    ]
    return "\n\n".join(parts)


def main() -> int:
    """Measure what is missing and print everything; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(FIGURES), metavar="NAME", help="this alone; repeats")
    parser.add_argument("--quick", action="store_true", help="two minutes or so: a look, not a measurement")
    parser.add_argument("--again", action="store_true", help="measure anew what FILE holds")
    parser.add_argument("--threads", type=int, default=0, help="of each model; 0 takes every core")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="results; what is in it already is not measured again"
    )
    options = parser.parse_args()
    try:
        document = _load(options.json, options.quick) if options.json else {"quick": options.quick, "figures": {}}
    except (ValueError, OSError) as error:
        parser.error(str(error))
    from uihlm_evaluation.runs.provenance import collect

    document["provenance"] = collect().to_json()
    chosen, failed = options.only or list(FIGURES), []
    for number, name in enumerate(chosen, 1):
        figure = FIGURES[name]
        if name in document["figures"] and not options.again:
            print(f"[{number}/{len(chosen)}] {name}: in {options.json} already", file=sys.stderr)
            continue
        if figure.gpu and not _has_gpu():
            print(f"[{number}/{len(chosen)}] {name}: left out, it needs a GPU", file=sys.stderr)
            continue
        print(f"[{number}/{len(chosen)}] {name} …", file=sys.stderr, flush=True)
        flags = figure.quick if options.quick else figure.full
        if figure.threads and options.threads:
            flags += ("--threads", str(options.threads))
        began_s = time.monotonic()
        try:
            own = _run(figure, flags)
        except subprocess.CalledProcessError as error:
            print(f"{name} failed with exit code {error.returncode}; the others go on", file=sys.stderr)
            failed.append(name)
            continue
        entry = {"findings": [asdict(found) for found in figure.findings(own)], "document": own}
        document["figures"][name] = entry | {"took_s": time.monotonic() - began_s, "flags": list(flags)}
        if options.json:
            _save(options.json, document)
    print(_merged(document, chosen))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
