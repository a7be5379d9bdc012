"""What a benchmark found: ratios with their spread, each beside its goal; a JSON file and a table of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.spread import Spread


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure.

    Attributes:
        what: which, in a few words.
        median, low, high: its median, 10th and 90th percentile; `low` and `high` equal it where it was had once.
        unit: `×` of a ratio, else `s`, `ms`, `MB`, `tok/s` …
        goal: what it is to reach; None where nothing was set.
        at_most: whether the goal is an upper bound.
    """

    what: str
    median: float
    low: float
    high: float
    unit: str = "×"
    goal: float | None = None
    at_most: bool = False

    @classmethod
    def of(
        cls, what: str, values: Sequence[float], unit: str = "×", goal: float | None = None, at_most: bool = False
    ) -> Finding:
        """Return the finding of repeated measurements."""
        spread = Spread.of(values)
        return cls(what, spread.median, spread.low, spread.high, unit, goal, at_most)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.median <= self.goal if self.at_most else self.median >= self.goal


def ratios(what: str, of: Sequence[float], to: Sequence[float], goal: float | None = None) -> Finding:
    """Return the finding of ratios taken turn by turn: `of[i] ÷ to[i]`."""
    return Finding.of(what, [a / b for a, b in zip(of, to, strict=True)], goal=goal)


def _number(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def table(findings: Sequence[Finding], heading: str = "figure") -> str:
    """Return findings as a Markdown table."""
    lines = [f"| {heading} | median [10 %, 90 %] | goal | held |", "|---|---:|---:|---|"]
    for found in findings:
        spread = "" if found.low == found.high else f" [{_number(found.low)}, {_number(found.high)}]"
        goal = "" if found.goal is None else f"{'≤' if found.at_most else '≥'} {found.goal:g}"
        held = {None: "", True: "yes", False: "**no**"}[found.met]
        lines.append(f"| {found.what} | {_number(found.median)}{spread} {found.unit} | {goal} | {held} |")
    return "\n".join(lines)


def write(path: str | Path, findings: Sequence[Finding], more: Mapping[str, Any] | None = None) -> None:
    """Write findings, and whatever else was measured, as JSON."""
    document = {"findings": [asdict(found) for found in findings], **(more or {})}
    Path(path).write_text(json.dumps(document, indent=1), encoding="utf-8")


def read(document: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of a document that `write` wrote."""
    return [Finding(**entry) for entry in document["findings"]]
