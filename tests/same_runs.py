"""Whether two run folders say the same, line by line and field by field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def contents(folder: str | Path) -> dict[str, Any]:
    """A run's folder without what the base station's stopwatch measured, and without who made it."""
    found: dict[str, Any] = {path.name: path.read_text() for path in Path(folder).iterdir()}
    for name in ("samples.jsonl", "rounds.jsonl"):
        found[name] = [{**line, "queue_s": 0.0} for line in lines(f"{folder}/{name}")]
    for name in ("run.json", "results.json"):
        found[name] = json.loads(found[name])
    del found["results.json"]["provenance"]
    return found


def unlike(one: Any, other: Any, place: str = "", tolerance: float = 1e-9) -> list[str]:
    """Where two values differ, floats by more than the tolerance."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{place}: {sorted(one.keys() ^ other.keys())}"]
        return [found for name in one for found in unlike(one[name], other[name], f"{place}.{name}", tolerance)]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for i, (a, b) in pairs for found in unlike(a, b, f"{place}[{i}]", tolerance)]
    if isinstance(one, float) and isinstance(other, float):
        return [] if math.isclose(one, other, rel_tol=tolerance) else [f"{place}: {one} and {other}"]
    return [] if one == other and type(one) is type(other) else [f"{place}: {one} and {other}"]
