"""Scores as a reader sees them: a terminal table, JSON, CSV or Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.results.table import DASH, MIN_WIDTH, TableFormat
from uihlm_evaluation.traces.manifest import Manifest
from uihlm_evaluation.traces.scores import BASELINE, Score, Scores

# The rates that fit a line of a terminal, and of a page; JSON and CSV hold them all.
SHOWN = (0.2, 0.4, 0.6)
SHOWN_WIDE = (0.1, 0.2, 0.4, 0.6, 0.8)

_LEGEND = (
    "Area: under the share of all rejection caught, over upload rates 0 … 1. Way: from chance to the oracle, which sees the "
    f"rejection probability itself. Gain: area over that of {BASELINE}, in points, paired over prompts."
)


def render(scores: Scores, manifest: Manifest, form: TableFormat, console: Console) -> None:
    """Write scores to a console in one of the formats."""
    match form:
        case TableFormat.JSON:
            document = scores.to_json(manifest)
            console.file.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        case TableFormat.CSV:
            console.file.write(csv_text(scores))
        case TableFormat.MD:
            console.file.write(markdown(scores, manifest))
        case TableFormat.TABLE:
            if not console.is_terminal:
                console = Console(file=console.file, width=max(console.width, MIN_WIDTH), color_system=None)
            console.print(heading(scores, manifest), highlight=False)
            for columns, rows in _sections(scores, wide=False):
                table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
                for number, column in enumerate(columns):
                    table.add_column(column, justify="right" if number else "left", overflow="fold")
                for row in rows:
                    table.add_row(*row)
                console.print(table)
            console.print(f"± half the 95 % bootstrap interval over prompts. {_LEGEND}", highlight=False)


def heading(scores: Scores, manifest: Manifest) -> str:
    """Return what was scored, in words."""
    rejection = 100 * scores.mean_rejection.mean
    side = "all" if scores.side == "all" else f"the {scores.side}"
    return (
        f"{scores.tokens:,} tokens of {side} {scores.prompts} prompts, {manifest.dataset}; "
        f"mean rejection {rejection:.1f} %"
    )


def csv_text(scores: Scores) -> str:
    """Return one line a rule and quantity: kind, name, quantity, upload rate, mean, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("kind", "name", "quantity", "upload_rate", "mean", "low", "high"))
    for rule in scores.rules:
        for quantity in ("auc", "way", "gain"):
            writer.writerow(("rule", rule.rule, quantity, "", *_bounds(getattr(rule, quantity))))
        for point in rule.rates:
            writer.writerow(("rule", rule.rule, "caught", point.rate, *_bounds(point.caught)))
    for policy in scores.policies:
        rate = policy.upload_rate.mean
        for quantity in ("upload_rate", "caught", "reject_rate"):
            writer.writerow(("policy", policy.policy, quantity, rate, *_bounds(getattr(policy, quantity))))
        writer.writerow(("policy", policy.policy, "oracle", rate, policy.oracle, "", ""))
    return text.getvalue()


def markdown(scores: Scores, manifest: Manifest) -> str:
    """Return the tables as Markdown."""
    lines = [heading(scores, manifest), ""]
    for columns, rows in _sections(scores, wide=True):
        lines += [_row(columns), _row(["---"] + ["---:"] * (len(columns) - 1)), *map(_row, rows), ""]
    return "\n".join([*lines, f"Brackets: 95 % bootstrap interval over prompts. {_LEGEND}"]) + "\n"


def _sections(scores: Scores, wide: bool) -> list[tuple[Sequence[str], list[list[str]]]]:
    """Return (columns, rows) of each table."""
    shown = SHOWN_WIDE if wide else SHOWN
    rates = [f"caught % at {100 * shown[0]:.0f}", *(f"at {100 * rate:.0f}" for rate in shown[1:])]
    sections: list[tuple[Sequence[str], list[list[str]]]] = [
        (
            ("rule", "area %", "way %", f"gain over {BASELINE}, points", *rates),
            [_cells(rule, shown, wide) for rule in scores.rules],
        )
    ]
    if scores.policies:
        rows = [
            [
                policy.policy,
                *(_percent(value, wide) for value in (policy.upload_rate, policy.caught, policy.reject_rate)),
                _digits(policy.upload_rate.mean),
                _digits(policy.oracle),
            ]
            for policy in scores.policies
        ]
        columns = ("policy", "upload %", "caught %", "reject % of uploaded", "chance catches %", "oracle catches %")
        sections.append((columns, rows))
    return sections


def _cells(rule: Score, shown: Sequence[float], wide: bool) -> list[str]:
    values = (rule.auc, rule.way, rule.gain, *(rule.caught(rate) for rate in shown))
    return [rule.rule, *(_percent(value, wide) for value in values)]


def _percent(value: Interval | None, wide: bool) -> str:
    if value is None:
        return DASH
    if wide:
        return f"{_digits(value.mean)} [{_digits(value.low)}, {_digits(value.high)}]"
    return f"{_digits(value.mean)} ±{_digits(value.half_width)}"


def _digits(value: float) -> str:
    # Rounded first, and 0 added: nothing is shown as −0.0.
    return f"{round(100 * value, 1) + 0.0:.1f}"


def _bounds(value: Interval | None) -> tuple[float | str, ...]:
    return ("", "", "") if value is None else (value.mean, value.low, value.high)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
