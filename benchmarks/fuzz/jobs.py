"""Campaigns side by side, a process each, that share out the cases of one seed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fuzz.figures import Figures


def side_by_side(jobs: int, messages: int, first: int, arguments: Sequence[object]) -> list[Figures]:
    """Run so many processes of `python -m benchmarks.fuzz` and return the figures of each."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for job in range(jobs):
            file = Path(folder) / f"{job}.json"
            command = [sys.executable, "-m", "benchmarks.fuzz", "--messages", messages // jobs, "--first", first + job]
            command += ["--stride", jobs, "--json", file, *arguments]
            process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
            started.append((process, file))
        return [_figures(process, file) for process, file in started]


def _figures(process: subprocess.Popen[bytes], file: Path) -> Figures:
    code = process.wait()
    if file.exists():
        found: Figures = json.loads(file.read_text(encoding="utf-8"))
        return found
    # A crash of the base station takes the process with it: that is what a process of its own is for.
    died = f"a process ended with {code} and no figures: its last lines are on stderr"
    return {
        **dict.fromkeys(("seed", "messages", "cases", "next_case", "seconds", "neighbour_answers"), 0),
        "statuses": {},
        "held": [],
        "failures": [died],
    }
