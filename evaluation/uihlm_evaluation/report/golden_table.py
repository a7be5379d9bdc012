"""Golden Table I as a reader sees it: a terminal table, JSON, CSV or Markdown, with the constants named below it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from uihlm_evaluation.report.golden import Constant, GoldenRow, constants, energy_errors, golden_rows, throughput_errors
from uihlm_evaluation.results.table import DASH, MIN_WIDTH, TableFormat

_HEADINGS = ("policy", "k", "γ", "λ paper", "λ model", "difference", "η % paper", "η % model", "difference")


def render_golden(table_format: TableFormat, console: Console) -> None:
    """Write the table to a console; JSON and CSV hold the rows alone, the other two say below what they rest on."""
    rows = golden_rows()
    if table_format is TableFormat.TABLE:
        if not console.is_terminal:
            # A pipe has no width of its own: what reads it should not get cut cells.
            console = Console(file=console.file, width=max(console.width, MIN_WIDTH), color_system=None)
        console.print(_terminal_table(rows))
        for note in notes(rows):
            console.print(note, highlight=False)
        return
    text = {TableFormat.JSON: golden_json, TableFormat.CSV: golden_csv, TableFormat.MD: golden_markdown}[table_format]
    console.file.write(text(rows))


def golden_json(rows: tuple[GoldenRow, ...]) -> str:
    """Return a JSON list of one object a row."""
    return json.dumps([dataclasses.asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def golden_csv(rows: tuple[GoldenRow, ...]) -> str:
    """Return one line a row, with both differences; an empty cell is a value that does not exist."""
    text = io.StringIO()
    names = [*(field.name for field in dataclasses.fields(GoldenRow)), "throughput_difference", "energy_difference"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return text.getvalue()


def golden_markdown(rows: tuple[GoldenRow, ...]) -> str:
    """Return a Markdown table and the notes below it."""
    lines = [_HEADINGS, ["---", *["---:"] * (len(_HEADINGS) - 1)], *(_cells(row) for row in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + "\n\n" + "\n".join(f"* {note}" for note in notes(rows)) + "\n"


def notes(rows: tuple[GoldenRow, ...]) -> list[str]:
    """Return the errors of both columns and where each constant comes from, a sentence or two each."""
    throughput, energy = throughput_errors(rows), energy_errors(rows)
    slm = next(row for row in rows if row.policy == "slm")
    return [
        f"λ, tokens a second: largest error {throughput.largest:.4f}, mean absolute error {throughput.mean:.4f}, over "
        f"{throughput.rows} rows. The paper prints two places.",
        f"η: slm {slm.energy_model:.1f} %, the paper {slm.energy_paper:.1f} %. The other {energy.rows} rows with a value: "
        f"largest error {energy.largest:.1f} points, mean absolute error {energy.mean:.1f}.",
        *(_sentence(constant) for constant in constants()),
    ]


def _sentence(constant: Constant) -> str:
    # Four digits show the three places of a fit to a third, and no more of what was solved than it holds.
    value = f"{constant.value:.4g} {constant.unit}".strip()
    return f"{constant.symbol} = {value}: {constant.origin}"


def _terminal_table(rows: tuple[GoldenRow, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: GoldenRow) -> list[str]:
    return [
        row.policy,
        DASH if row.k is None else str(row.k),
        DASH if row.gamma is None else f"{row.gamma:.1f}",
        f"{row.throughput_paper:.2f}",
        f"{row.throughput_model:.4f}",
        f"{row.throughput_difference:+.4f}",
        DASH if row.energy_paper is None else f"{row.energy_paper:.1f}",
        f"{row.energy_model:.1f}",
        DASH if row.energy_difference is None else f"{row.energy_difference:+.1f}",
    ]
