"""Results as a reader sees them: a terminal table, JSON, CSV or Markdown. A value that does not exist is a dash."""

from __future__ import annotations

import csv
import dataclasses
import enum
import io
import json
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.runs.results import HLM, PolicyResult

DASH = "–"
MIN_WIDTH = 100

_HEADINGS = (
    "policy",
    "BERTScore\nF1",
    "cosine\nsimilarity",
    "upload\n%",
    "reject\n%",
    "η\n%",
    "λ\npaper",
    "tok/s",
    "LLM fwd\n/token",
    "model bit\n/token",
)

_LEGEND = (
    "Brackets: 95 % bootstrap interval over prompts. Parentheses: against hlm. Upload: judged drafts ÷ tokens. "
    "Reject: of the uploaded. η: energy saved in the paper's cost model. λ (paper): Eq. (3) with the paper's "
    "constants, tokens a second. tok/s: measured compute and link clock. LLM forwards, positions: what the base "
    "station ran. Model bit: the paper's B; payload bit: the codec's bytes. Risk: rejection probabilities of skipped tokens, "
    "summed, ÷ tokens."
)


class TableFormat(enum.StrEnum):
    """The value of `--format`."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


def render(
    results: Sequence[PolicyResult], table_format: TableFormat, console: Console, metric_hash: str | None = None
) -> None:
    """Write results to a console in one of the formats; all but `table` are written as they are, whatever its width."""
    if table_format is TableFormat.TABLE:
        if not console.is_terminal:
            # A pipe has no width of its own: what reads it should not get cut cells.
            console = Console(file=console.file, width=max(console.width, MIN_WIDTH), color_system=None)
        console.print(terminal_table(results))
        return
    text = {
        TableFormat.JSON: lambda: json_text(results),
        TableFormat.CSV: lambda: csv_text(results),
        TableFormat.MD: lambda: markdown(results, metric_hash),
    }[table_format]()
    console.file.write(text)


def terminal_table(results: Sequence[PolicyResult]) -> Table:
    """Return a table that fits 100 columns; ± is half the 95 % interval."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))
    for result in results:
        table.add_row(
            result.row,
            _plus_minus(result.bertscore_f1),
            _plus_minus(result.cosine_similarity),
            _percent(result.upload_rate),
            _percent(result.reject_rate),
            _percent(result.energy_saving_ratio),
            _number(result.throughput_paper_tok_s),
            _number(result.throughput_tok_s),
            _number(result.llm_forwards_per_token),
            _scaled(_each(result.model_bits, result.tokens)),
        )
    return table


def json_text(results: Sequence[PolicyResult]) -> str:
    """Return a JSON list of the objects that stand under `policies` in `results.json`."""
    return json.dumps([result.to_json() for result in results], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(results: Sequence[PolicyResult]) -> str:
    """Return one line a policy; a mean has its own column and `_low` and `_high` beside it, null is an empty cell."""
    intervals = ("bertscore_f1", "cosine_similarity", "latency_s")
    rows = []
    for result in results:
        row: dict[str, object] = {}
        for field in dataclasses.fields(result):
            value = getattr(result, field.name)
            if field.name in intervals:
                row[field.name] = value.mean if value else None
                row[f"{field.name}_low"] = value.low if value else None
                row[f"{field.name}_high"] = value.high if value else None
            else:
                row[field.name] = value
        rows.append(row)
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def markdown(results: Sequence[PolicyResult], metric_hash: str | None = None) -> str:
    """Return `table.md`: beside quality, λ and uploads their ratio to the `hlm` row, if there is one."""
    hlm = next((result for result in results if result.policy == HLM), None)
    headings = (
        "policy",
        "prompts",
        "BERTScore F1",
        "cosine similarity",
        "upload",
        "reject",
        "η",
        "λ (paper)",
        "tok/s",
        "latency s",
        "LLM forwards/token",
        "LLM positions/token",
        "BS busy s",
        "model bit/token",
        "payload bit/token",
        "energy J",
        "risk",
    )
    lines = [_row(headings), _row(["---"] + ["---:"] * (len(headings) - 1))]
    for result in results:
        cells = (
            result.row.replace("|", "\\|"),
            str(result.prompts),
            _beside(_bracket(result.bertscore_f1), _quality(result.bertscore_f1, hlm.bertscore_f1 if hlm else None)),
            _beside(
                _bracket(result.cosine_similarity),
                _quality(result.cosine_similarity, hlm.cosine_similarity if hlm else None),
            ),
            _beside(_percent(result.upload_rate, " %"), _saved(result.upload_rate, hlm.upload_rate if hlm else None)),
            _percent(result.reject_rate, " %"),
            _percent(result.energy_saving_ratio, " %"),
            _times_hlm(result.throughput_paper_tok_s, hlm.throughput_paper_tok_s if hlm else None),
            _times_hlm(result.throughput_tok_s, hlm.throughput_tok_s if hlm else None),
            _bracket(result.latency_s),
            _number(result.llm_forwards_per_token),
            _number(result.llm_positions_per_token),
            _number(result.bs_busy_s),
            _scaled(_each(result.model_bits, result.tokens)),
            _scaled(_each(result.payload_bits, result.tokens)),
            _number(result.energy_j),
            DASH if result.skipped_risk is None else f"{result.skipped_risk:.3f}",
        )
        lines.append(_row(cells))
    encoder = f" BERTScore encoder: `{metric_hash}`." if metric_hash else ""
    return "\n".join([*lines, "", _LEGEND + encoder]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _each(total: float, tokens: int) -> float | None:
    return total / tokens if tokens else None


def _number(value: float | None) -> str:
    """Three significant digits or two decimals, whichever shows more."""
    if value is None:
        return DASH
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _scaled(value: float | None) -> str:
    if value is None:
        return DASH
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {letter}"
    return f"{value:.3g}"


def _percent(value: float | None, unit: str = "") -> str:
    return DASH if value is None else f"{100.0 * value:.1f}{unit}"


def _plus_minus(value: Interval | None) -> str:
    return DASH if value is None else f"{value.mean:.3f} ±{value.half_width:.3f}"


def _bracket(value: Interval | None) -> str:
    if value is None:
        return DASH
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _beside(value: str, ratio: str | None) -> str:
    return value if ratio is None or value == DASH else f"{value} ({ratio})"


def _quality(value: Interval | None, baseline: Interval | None) -> str | None:
    if value is None or baseline is None or baseline.mean <= 0.0:
        return None
    return f"{100.0 * value.mean / baseline.mean:.1f} %"


def _saved(rate: float | None, baseline: float | None) -> str | None:
    return None if rate is None or not baseline else f"{100.0 * (1.0 - rate / baseline):.1f} % saved"


def _times_hlm(value: float | None, baseline: float | None) -> str:
    return _beside(_number(value), None if value is None or not baseline else f"{value / baseline:.2f}×")
