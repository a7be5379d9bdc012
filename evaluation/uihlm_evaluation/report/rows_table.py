"""The table of the page: every row of a run with 95 % intervals, and the paper's row under ours where it has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.intervals import RatioIntervals, ratio_intervals
from uihlm_evaluation.report.measures import ratio_interval
from uihlm_evaluation.report.table_one import PaperRow, table_one
from uihlm_evaluation.results.policy_result import LLM, PolicyResult
from uihlm_evaluation.results.table import DASH
from uihlm_evaluation.runs.samples import Sample


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and under it its interval."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table.

    Attributes:
        label: of the row.
        paper: whether it is the paper's.
        cells: one a heading.
    """

    label: str
    paper: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A column's name, and what it means."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class _Row:
    result: PolicyResult
    samples: list[Sample]
    ratios: RatioIntervals | None
    seed: int

    def ratio(self, part: str, whole: str = "tokens") -> Interval | None:
        """Return a ratio of totals over this row's answers."""
        if self.result.policy == LLM and part in ("uploaded", "rejected"):
            return None
        columns = [np.array([getattr(s, name) for s in self.samples], dtype=np.float64) for name in (part, whole)]
        return ratio_interval(columns[0], columns[1], self.seed)


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, what makes our cell, and the paper's value with its format; None where its table has none."""

    heading: Heading
    make: Callable[[_Row], Cell]
    paper: Callable[[PaperRow], float | None] | None = None
    form: str = ".1f"


def _cell(found: Interval | None, form: str, mean: float | None = None, scale: float = 1.0) -> Cell:
    value = found.mean if found is not None and mean is None else mean
    if value is None:
        return Cell(DASH)
    span = "" if found is None else f"[{_text(scale * found.low, form)}, {_text(scale * found.high, form)}]"
    return Cell(_text(scale * value, form), span)


def _text(value: float, form: str) -> str:
    return f"{value:{form}}".replace("-", "−")


def _score(name: str) -> Callable[[_Row], Cell]:
    return lambda row: _cell(getattr(row.result, name), ".3f")


def _per_token(name: str, form: str, scale: float = 1.0) -> Callable[[_Row], Cell]:
    return lambda row: _cell(row.ratio(name), form, scale=scale)


def _of_results(name: str, form: str, scale: float = 1.0) -> Callable[[_Row], Cell]:
    """Take the value from results.json and its interval from the samples."""

    def make(row: _Row) -> Cell:
        found = None if row.ratios is None else getattr(row.ratios, name)
        return _cell(found, form, getattr(row.result, name), scale)

    return make


def _joules(field: str) -> Callable[[_Row], Cell]:
    def make(row: _Row) -> Cell:
        joules, tokens = getattr(row.result, field), row.result.tokens
        return Cell(_text(joules / tokens, ".2f") if joules is not None and tokens else DASH)

    return make


def _risk(row: _Row) -> Cell:
    return _cell(None, ".3f", row.result.skipped_risk)


def _ours(name: str, meaning: str, make: Callable[[_Row], Cell]) -> Column:
    """Return a column that the paper's table lacks."""
    return Column(Heading(name, meaning), make)


_COLUMNS = (
    _ours("prompts", "answered", lambda row: Cell(str(row.result.prompts))),
    Column(
        Heading("BERTScore F1", "against the data set's answer"),
        _score("bertscore_f1"),
        lambda paper: paper.bertscore_pct / 100.0,
        ".3f",
    ),
    Column(
        Heading("cosine similarity", "against the data set's answer"),
        _score("cosine_similarity"),
        lambda paper: paper.cosine_pct / 100.0,
        ".3f",
    ),
    _ours("F1 against llm", "BERTScore against the LLM's own answer", _score("bertscore_f1_llm")),
    _ours("exact match", "of prompts with one right answer", _score("exact_match")),
    _ours("last number", "right, of prompts with one right answer", _score("last_number_accuracy")),
    _ours("log-probability", "of the answer under the LLM, nats a token", _score("llm_log_prob")),
    Column(
        Heading("upload %", "judged drafts ÷ tokens"),
        lambda row: _cell(row.ratio("uploaded"), ".1f", scale=100.0),
        lambda paper: paper.upload_rate_pct,
    ),
    Column(
        Heading("reject %", "of the uploaded"),
        lambda row: _cell(row.ratio("rejected", "uploaded"), ".1f", scale=100.0),
        lambda paper: paper.reject_rate_pct,
    ),
    Column(
        Heading("η %", "energy saved against hlm, the paper's cost model"),
        _of_results("energy_saving_ratio", ".1f", 100.0),
        lambda paper: paper.energy_saving_pct,
    ),
    Column(
        Heading("λ (paper)", "tokens a second by Eq. (3) with the paper's constants"),
        _of_results("throughput_paper_tok_s", ".3f"),
        lambda paper: paper.throughput_tok_s,
        ".2f",
    ),
    _ours("tok/s", "measured compute and link clock", _of_results("throughput_tok_s", ".3f")),
    _ours("latency s", "an answer, mean", lambda row: _cell(row.result.latency_s, ".2f")),
    _ours("LLM forwards", "per token", _per_token("llm_forwards", ".3f")),
    _ours("LLM positions", "per token", _per_token("llm_positions", ".2f")),
    _ours("base station ms", "busy, per token", _per_token("bs_busy_s", ".1f", 1e3)),
    _ours("model kbit", "per token: the paper's B", _per_token("model_bits", ",.1f", 1e-3)),
    _ours("payload kbit", "per token: the codec's", _per_token("payload_bits", ",.1f", 1e-3)),
    _ours("joules, modelled", "per token, watts times busy seconds", _joules("energy_j")),
    _ours("joules, modelled, device", "per token, of the modelled", _joules("device_j")),
    _ours("joules, modelled, base station", "per token, of the modelled", _joules("basestation_j")),
    _ours("joules, measured", "per token, both ends", _joules("measured_j")),
    _ours("joules, measured, device", "per token", _joules("measured_device_j")),
    _ours("joules, measured, base station", "per token", _joules("measured_basestation_j")),
    _ours(
        "joules, measured, one machine",
        "per token: device and base station, not told apart",
        _joules("measured_machine_j"),
    ),
    _ours("risk", "rejection probability of skipped tokens ÷ tokens", _risk),
)


def table(folder: RunFolder) -> tuple[tuple[Heading, ...], tuple[Line, ...]]:
    """Return headings and lines; a column that no row has a value for is left out."""
    kept = [sample for sample in folder.samples if not sample.failed]
    seed = int(folder.document["config"]["selection"]["seed"]) % 2**64
    ratios = ratio_intervals(folder.results, kept, folder.vocabulary_size, seed) if kept else {}
    lines = []
    for result in folder.results:
        row = _Row(result, [s for s in kept if s.policy == result.row], ratios.get(result.row), seed)
        lines.append(Line(result.row, False, tuple(column.make(row) for column in _COLUMNS)))
        match = paper_row(result)
        if match is not None:
            lines.append(Line(f"paper: {result.row}", True, tuple(_paper_cell(match, column) for column in _COLUMNS)))
    used = [n for n in range(len(_COLUMNS)) if any(line.cells[n].value != DASH for line in lines if not line.paper)]
    shown = tuple(Line(line.label, line.paper, tuple(line.cells[n] for n in used)) for line in lines)
    return tuple(_COLUMNS[n].heading for n in used), shown


def paper_row(result: PolicyResult) -> PaperRow | None:
    """Return the paper's row of the same policy and knobs, if its table has one."""
    paper = {(row.policy, row.k, row.gamma if row.policy == "ui" else None): row for row in table_one()}
    return paper.get(_key(result))


def _key(result: PolicyResult) -> tuple[str, int | None, float | None]:
    k = None if result.k is None else int(result.k)
    if result.policy == "i" and result.gamma != 1.0:
        # The paper ran its i rows at γ = 1 alone.
        return "", None, None
    return result.policy, k, result.gamma if result.policy == "ui" else None


def _paper_cell(row: PaperRow, column: Column) -> Cell:
    return _cell(None, column.form, None if column.paper is None else column.paper(row))
