"""Table I of a sweep: every row with 95 % bootstrap intervals, paired over prompts, and the paper's row beside ours.

table1.md     as the report's page shows it
table1.csv    one line a row: our value, low, high and the paper's value of each column
table1.json   the same as a list of objects, `paper` null where its table has no such row
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.intervals import RatioIntervals, ratio_intervals
from uihlm_evaluation.report.measures import ratio_interval
from uihlm_evaluation.report.rows_table import Line, paper_row, table
from uihlm_evaluation.report.table_one import PaperRow
from uihlm_evaluation.results.policy_result import LLM, PolicyResult
from uihlm_evaluation.runs.samples import Sample
from uihlm_evaluation.whole_files import write_whole

NAMES = ("table1.md", "table1.csv", "table1.json")

# Our column → the paper's, and what turns its unit into ours.
_PAPER = {
    "bertscore_f1": ("bertscore_pct", 0.01),
    "cosine_similarity": ("cosine_pct", 0.01),
    "upload_rate": ("upload_rate_pct", 0.01),
    "reject_rate": ("reject_rate_pct", 0.01),
    "energy_saving_ratio": ("energy_saving_pct", 0.01),
    "throughput_paper_tok_s": ("throughput_tok_s", 1.0),
}
_MEANS = (
    "bertscore_f1", "cosine_similarity", "bertscore_f1_llm", "cosine_similarity_llm", "llm_log_prob", "tv", "latency_s",
)  # fmt: skip
_RATIOS = ("throughput_tok_s", "throughput_paper_tok_s", "energy_saving_ratio", "llm_forwards_per_token")
_COLUMNS = ("upload_rate", "reject_rate", *_MEANS, *_RATIOS)


def write_table1(folder: RunFolder) -> None:
    """Write the three files into the run's folder."""
    objects = table1(folder)
    write_whole(folder.path / "table1.md", _markdown(folder))
    write_whole(folder.path / "table1.csv", _csv(objects))
    write_whole(folder.path / "table1.json", json.dumps(objects, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def table1(folder: RunFolder) -> list[dict[str, Any]]:
    """Return one object a row: its knobs, `ours` (column → {mean, low, high} or null) and `paper` (column → value or null)."""
    kept = [sample for sample in folder.samples if not sample.failed]
    seed = int(folder.document["config"]["selection"]["seed"]) % 2**64
    ratios = ratio_intervals(folder.results, kept, folder.vocabulary_size, seed) if kept else {}
    return [
        {
            "row": result.row,
            "policy": result.policy,
            "k": result.k,
            "gamma": result.gamma,
            "ours": _ours(result, [s for s in kept if s.policy == result.row], ratios.get(result.row), seed),
            "paper": _paper(paper_row(result)),
        }
        for result in folder.results
    ]


def _ours(
    result: PolicyResult, samples: Sequence[Sample], ratios: RatioIntervals | None, seed: int
) -> dict[str, dict[str, float] | None]:
    asked = result.policy != LLM
    found: dict[str, Interval | None] = {
        "upload_rate": _ratio(samples, "uploaded", "tokens", seed) if asked else None,
        "reject_rate": _ratio(samples, "rejected", "uploaded", seed) if asked else None,
    }
    found |= {name: getattr(result, name) for name in _MEANS}
    found |= {name: None if ratios is None else getattr(ratios, name) for name in _RATIOS}
    return {
        name: None if value is None else {"mean": value.mean, "low": value.low, "high": value.high}
        for name, value in found.items()
    }


def _ratio(samples: Sequence[Sample], part: str, whole: str, seed: int) -> Interval | None:
    parts, wholes = (np.array([getattr(s, name) for s in samples], np.float64) for name in (part, whole))
    return ratio_interval(parts, wholes, seed) if samples else None


def _paper(row: PaperRow | None) -> dict[str, float | None] | None:
    if row is None:
        return None
    values = {name: (getattr(row, theirs), unit) for name, (theirs, unit) in _PAPER.items()}
    return {name: None if value is None else value * unit for name, (value, unit) in values.items()}


def _csv(objects: Sequence[dict[str, Any]]) -> str:
    lines = []
    for entry in objects:
        line: dict[str, Any] = {name: entry[name] for name in ("row", "policy", "k", "gamma")}
        for name in _COLUMNS:
            value = entry["ours"][name] or {}
            line |= {name: value.get("mean"), f"{name}_low": value.get("low"), f"{name}_high": value.get("high")}
            if name in _PAPER:
                line[f"{name}_paper"] = (entry["paper"] or {}).get(name)
        lines.append(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _markdown(folder: RunFolder) -> str:
    headings, lines = table(folder)
    head = ["row", *(heading.name for heading in headings)]
    text = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(headings)]
    text += ["| " + " | ".join(_cells(line)) + " |" for line in lines]
    meanings = "; ".join(f"{heading.name}: {heading.meaning}" for heading in headings)
    return "\n".join([*text, "", f"Brackets: 95 % bootstrap interval over prompts. {meanings}."]) + "\n"


def _cells(line: Line) -> list[str]:
    return [line.label, *(f"{cell.value} {cell.interval}".strip() for cell in line.cells)]
