"""What is in a pack, side by side: prompts, tokens, mean rejection, mean uncertainty."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from uihlm_evaluation.calibration.resampling import Resampler
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.results.table import DASH, TableFormat
from uihlm_evaluation.traces.pack import Side, TracePack

COLUMNS = ("side", "prompts", "tokens", "rejection probability %", "u %")


def contents(pack: TracePack) -> list[dict[str, Any]]:
    """Return an object for each side, and for all; a side without prompts has null means."""
    held = pack.held_out
    rows = []
    for side, which in ((Side.TRAIN, ~held), (Side.HELD_OUT, held), (Side.ALL, held | ~held)):
        means: dict[str, Interval | None] = {"reject_prob": None, "u": None}
        prompts = 0
        if which.any():
            trace = pack.trace.rows(which)
            resampler = Resampler(trace.prompt, pack.manifest.seed)
            means = {"reject_prob": resampler.mean(trace.reject_prob), "u": resampler.mean(trace.u)}
            prompts = resampler.prompts
        rows.append({"side": side.value, "prompts": prompts, "tokens": int(which.sum()), **means})
    return rows


def render(pack: TracePack, form: TableFormat, console: Console) -> None:
    """Write them to a console in one of the formats."""
    rows = contents(pack)
    cells = [
        [row["side"], str(row["prompts"]), str(row["tokens"]), *map(_mean, (row["reject_prob"], row["u"]))]
        for row in rows
    ]
    match form:
        case TableFormat.JSON:
            plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
            console.file.write(json.dumps(plain, indent=1, allow_nan=False) + "\n")
        case TableFormat.CSV:
            console.file.write(_csv_text(rows))
        case TableFormat.MD:
            lines = [_row(COLUMNS), _row(["---"] + ["---:"] * (len(COLUMNS) - 1)), *map(_row, cells)]
            console.file.write("\n".join(lines) + "\n")
        case TableFormat.TABLE:
            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            for number, column in enumerate(COLUMNS):
                table.add_column(column, justify="right" if number else "left")
            for row in cells:
                table.add_row(*row)
            console.print(table)


def _csv_text(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("side", "prompts", "tokens", "quantity", "mean", "low", "high"))
    for row in rows:
        for quantity in ("reject_prob", "u"):
            value = row[quantity]
            bounds = ("", "", "") if value is None else (value.mean, value.low, value.high)
            writer.writerow((row["side"], row["prompts"], row["tokens"], quantity, *bounds))
    return text.getvalue()


def _mean(value: Interval | None) -> str:
    return DASH if value is None else f"{100 * value.mean:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _plain(value: Any) -> Any:
    return {"mean": value.mean, "low": value.low, "high": value.high} if isinstance(value, Interval) else value


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
