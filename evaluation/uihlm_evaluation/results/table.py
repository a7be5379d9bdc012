"""Results as a reader sees them: a terminal table, JSON, CSV or Markdown. A value that does not exist is a dash."""

from __future__ import annotations

import csv
import dataclasses
import enum
import io
import json
from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.results.joule_columns import measured_columns, side_by_side
from uihlm_evaluation.results.policy_result import HLM, PolicyResult

DASH = "–"
MIN_WIDTH = 100

_Column = tuple[str, Callable[[PolicyResult], str]]

_LEGEND = (
    "Brackets: 95 % bootstrap interval over prompts. Parentheses: against hlm. Upload: judged drafts ÷ tokens. "
    "Reject: of the uploaded. η: energy saved in the paper's cost model. λ (paper): Eq. (3) with the paper's "
    "constants, tokens a second. tok/s: measured compute and link clock. LLM forwards, positions: what the base "
    "station ran. Model bit: the paper's B; payload bit: the codec's bytes. Risk: rejection probabilities of skipped tokens, "
    "summed, ÷ tokens. Where shown: exact match and last number are shares of answers that give the target; to llm: against "
    "the LLM's own answer in place of the data set's; ln P_LLM: the LLM's mean log-probability of the answer's tokens, nats; "
    "TV: mean total variation between drafter and LLM where both were seen. Modelled J: watts times busy seconds; measured J: "
    "what meters read from each prompt to its last token, or told by the base station of its forwards (docs/joules.md)."
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
    """Return a table that fits 100 columns; ± is half the 95 % interval.

    Where answers are right or wrong, that takes the place of the cosine similarity, and where joules were measured, they
    take its and λ's; the Markdown table has all.
    """
    pair = side_by_side(results)
    exact = _shown(results, ("exact\nmatch %", "exact_match", _percent_plus_minus))
    number = _shown(results, ("last\nnumber %", "last_number_accuracy", _percent_plus_minus))
    cosine: list[_Column] = [("cosine\nsimilarity", lambda result: _plus_minus(result.cosine_similarity))]
    columns: list[_Column] = [
        ("policy", lambda result: result.row),
        ("BERTScore\nF1", lambda result: _plus_minus(result.bertscore_f1)),
        *(exact + number or ([] if pair else cosine)),
        ("upload\n%", lambda result: _percent(result.upload_rate)),
        ("reject\n%", lambda result: _percent(result.reject_rate)),
        ("η\n%", lambda result: _percent(result.energy_saving_ratio)),
        *([] if pair else [("λ\npaper", lambda result: _number(result.throughput_paper_tok_s))]),
        ("tok/s", lambda result: _number(result.throughput_tok_s)),
        ("LLM fwd\n/token", lambda result: _number(result.llm_forwards_per_token)),
        ("model bit\n/token", lambda result: _scaled(_each(result.model_bits, result.tokens))),
        *([_joules("J/token\nmodel", pair.modelled, each=True)] if pair else []),
        *([_joules("J/token\nmeter", pair.measured, each=True)] if pair else []),
    ]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    if pair:
        table.caption = f"J/token: {pair.whose}, modelled and measured"
    for place, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="right" if place else "left", overflow="fold", no_wrap=bool(place))
    for result in results:
        table.add_row(*(cell(result) for _, cell in columns))
    return table


def json_text(results: Sequence[PolicyResult]) -> str:
    """Return a JSON list of the objects that stand under `policies` in `results.json`."""
    return json.dumps([result.to_json() for result in results], indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(results: Sequence[PolicyResult]) -> str:
    """Return one line a policy; a mean has its own column and `_low` and `_high` beside it, null is an empty cell."""
    intervals = [field.name for field in dataclasses.fields(PolicyResult) if "Interval" in str(field.type)]
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
    columns: list[_Column] = [
        ("policy", lambda r: r.row.replace("|", "\\|")),
        ("prompts", lambda r: str(r.prompts)),
        *_shown(results, ("exact match", "exact_match", _bracket), ("last number", "last_number_accuracy", _bracket)),
        ("BERTScore F1", lambda r: _quality(r.bertscore_f1, hlm.bertscore_f1 if hlm else None)),
        ("cosine similarity", lambda r: _quality(r.cosine_similarity, hlm.cosine_similarity if hlm else None)),
        *_shown(
            results,
            ("BERTScore F1 to llm", "bertscore_f1_llm", _bracket),
            ("cosine similarity to llm", "cosine_similarity_llm", _bracket),
            ("ln P_LLM/token", "llm_log_prob", _bracket),
            ("TV(x, y)", "tv", _bracket),
        ),
        (
            "upload",
            lambda r: _beside(_percent(r.upload_rate, " %"), _saved(r.upload_rate, hlm.upload_rate if hlm else None)),
        ),
        ("reject", lambda r: _percent(r.reject_rate, " %")),
        ("η", lambda r: _percent(r.energy_saving_ratio, " %")),
        ("λ (paper)", lambda r: _times_hlm(r.throughput_paper_tok_s, hlm.throughput_paper_tok_s if hlm else None)),
        ("tok/s", lambda r: _times_hlm(r.throughput_tok_s, hlm.throughput_tok_s if hlm else None)),
        ("latency s", lambda r: _bracket(r.latency_s)),
        ("LLM forwards/token", lambda r: _number(r.llm_forwards_per_token)),
        ("LLM positions/token", lambda r: _number(r.llm_positions_per_token)),
        ("BS busy s", lambda r: _number(r.bs_busy_s)),
        ("model bit/token", lambda r: _scaled(_each(r.model_bits, r.tokens))),
        ("payload bit/token", lambda r: _scaled(_each(r.payload_bits, r.tokens))),
        ("modelled J", lambda r: _number(r.energy_j)),
        *(_joules(heading, field) for heading, field in measured_columns(results)),
        ("risk", lambda r: DASH if r.skipped_risk is None else f"{r.skipped_risk:.3f}"),
    ]
    lines = [_row([heading for heading, _ in columns]), _row(["---"] + ["---:"] * (len(columns) - 1))]
    lines += [_row([cell(result) for _, cell in columns]) for result in results]
    encoder = f" BERTScore encoder: `{metric_hash}`." if metric_hash else ""
    return "\n".join([*lines, "", _LEGEND + encoder + outages(results)]) + "\n"


def _joules(heading: str, field: str, each: bool = False) -> _Column:
    """Return a column of joules, or of joules a token."""

    def cell(result: PolicyResult) -> str:
        value = getattr(result, field)
        return _number(_each(value, result.tokens) if each and value is not None else value)

    return heading, cell


def outages(results: Sequence[PolicyResult]) -> str:
    """Return a sentence on the rows whose base station was lost meanwhile, with a space before it; empty without any."""
    lost = [
        f"{result.row} {result.lost_links} times ({result.outage_tokens} tokens kept unasked)"
        for result in results
        if result.lost_links
    ]
    return f" The link was lost under {', '.join(lost)}." if lost else ""


def _shown(
    results: Sequence[PolicyResult], *columns: tuple[str, str, Callable[[Interval | None], str]]
) -> list[_Column]:
    """Return those columns (heading, field, form) in which some row has a value."""

    def column(heading: str, field: str, form: Callable[[Interval | None], str]) -> _Column:
        return heading, lambda result: form(getattr(result, field))

    return [
        column(heading, field, form)
        for heading, field, form in columns
        if any(getattr(result, field) is not None for result in results)
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _each(total: float, tokens: int) -> float | None:
    return total / tokens if tokens else None


def _number(value: float | None) -> str:
    """Three significant digits or two decimals, whichever shows more."""
    if value is None:
        return DASH
    for least, form in ((99.95, ".0f"), (9.995, ".1f"), (0.0995, ".2f")):
        if abs(value) >= least:
            return format(value, form)
    return f"{value:.3g}" if value else "0.00"


def _scaled(value: float | None) -> str:
    if value is None:
        return DASH
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999.7 is written as 1 k, not as 1e+03.
        if abs(value) >= 0.9995 * scale:
            return f"{value / scale:.3g} {letter}"
    return f"{value:.3g}"


def _percent(value: float | None, unit: str = "") -> str:
    return DASH if value is None else f"{100.0 * value:.1f}{unit}"


def _plus_minus(value: Interval | None) -> str:
    return DASH if value is None else f"{value.mean:.3f} ±{value.half_width:.3f}"


def _percent_plus_minus(value: Interval | None) -> str:
    return DASH if value is None else f"{100.0 * value.mean:.1f} ±{100.0 * value.half_width:.1f}"


def _bracket(value: Interval | None) -> str:
    if value is None:
        return DASH
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _beside(value: str, ratio: str | None) -> str:
    return value if ratio is None or value == DASH else f"{value} ({ratio})"


def _quality(value: Interval | None, baseline: Interval | None) -> str:
    if value is None or baseline is None or baseline.mean <= 0.0:
        return _bracket(value)
    return _beside(_bracket(value), f"{100.0 * value.mean / baseline.mean:.1f} %")


def _saved(rate: float | None, baseline: float | None) -> str | None:
    return None if rate is None or not baseline else f"{100.0 * (1.0 - rate / baseline):.1f} % saved"


def _times_hlm(value: float | None, baseline: float | None) -> str:
    return _beside(_number(value), None if value is None or not baseline else f"{value / baseline:.2f}×")
