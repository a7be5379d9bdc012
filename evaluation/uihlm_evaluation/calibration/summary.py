"""What calibration found, as a reader sees it: a terminal table, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from uihlm_evaluation.calibration.curves import PAPER_UPLOAD_RATES
from uihlm_evaluation.calibration.findings import Findings
from uihlm_evaluation.calibration.learned import Comparison
from uihlm_evaluation.calibration.profile import Profile
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.results.table import DASH, TableFormat

Shown = Callable[[Interval | None, int], str]

_WIDTH = 100
_LEGEND = (
    "Brackets: 95 % bootstrap interval over prompts. Δ: the rejection that is put up with. Risk: rejection probabilities "
    "of skipped tokens, summed, ÷ all tokens."
)


def render(
    findings: Findings,
    profile: Profile,
    content: dict[str, Any],
    form: TableFormat,
    console: Console,
    learned: Comparison | None = None,
) -> None:
    """Write the findings to a console in one of the formats; `json` is `calibration.json`."""
    match form:
        case TableFormat.JSON:
            console.file.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        case TableFormat.CSV:
            console.file.write(csv_text(findings, profile, learned))
        case TableFormat.MD:
            console.file.write(markdown(findings, profile, learned))
        case TableFormat.TABLE:
            if not console.is_terminal:
                console = Console(file=console.file, width=max(console.width, _WIDTH), color_system=None)
            for heading, columns, rows in sections(findings, profile, _narrow, learned):
                table = Table(box=SIMPLE_HEAD, pad_edge=False, title=heading, title_justify="left")
                for number, column in enumerate(columns):
                    table.add_column(column, justify="right" if number else "left")
                for row in rows:
                    table.add_row(*row)
                console.print(table)
            console.print(chosen(findings, profile), highlight=False)
            if learned is not None:
                console.print(learned.sentence(), highlight=False, markup=False)


def sections(
    findings: Findings, profile: Profile, shown: Shown, learned: Comparison | None = None
) -> Iterable[tuple[str, Sequence[str], list[list[str]]]]:
    """Yield (heading, columns, rows) of each table; `shown` puts a value and its interval into words."""
    law = findings.law
    yield (
        f"β ≈ a·u + b over {law.tokens} tokens of {law.prompts} prompts",
        ("", "a", "b", "correlation", "R² of bin means"),
        [
            [name, *(shown(value, 1) for value in (line.a, line.b, line.correlation, line.r2_bins))]
            for name, line in (("rejection probability", law.probability), ("outcome, 0 or 1", law.outcome))
        ],
    )
    yield (
        "thresholds",
        ("", "Δ", "θ_u", "upload %", "reject % of uploaded", "risk"),
        [
            [
                outcome.name.value + (" *" if outcome.name.value == profile.threshold else ""),
                shown(outcome.delta, 1),
                shown(outcome.theta_u, 1),
                shown(outcome.upload_rate, 100),
                shown(outcome.reject_rate, 100),
                shown(outcome.risk, 1),
            ]
            for outcome in findings.thresholds
        ],
    )
    at_layer = findings.curves_of(profile.layer)
    ks = [k for k, _ in at_layer[0].upload_rates]
    yield (
        f"importance alone at layer {profile.layer}, reading heads: upload %",
        ("γ", *(f"k = {k}" for k in ks), "correlation with rejection"),
        [
            [f"{c.gamma:g}", *(f"{100 * rate.mean:.1f}" for _, rate in c.upload_rates), shown(c.correlation, 1)]
            for c in at_layer
        ]
        + [["1 (paper)", *(f"{100 * PAPER_UPLOAD_RATES[k]:.1f}" for k in ks), DASH]],
    )
    if learned is not None:
        yield (
            f"rejection caught on held-out prompts at {100 * learned.upload_rate:.1f} % uploaded",
            ("", "caught %", "more than u, points"),
            [[rule.rule, shown(rule.wanted.caught, 100), shown(rule.wanted.gain, 100)] for rule in learned.rules]
            + [
                [f"learned from {point.tokens:.0f} tokens", DASH, shown(point.gain, 100)]
                for point in learned.learning
                if point.share < 1.0
            ],
        )


def chosen(findings: Findings, profile: Profile) -> str:
    """Return the knobs of the profile, and why this layer, in words."""
    theta = DASH if profile.theta_u is None else f"{profile.theta_u:.3f}"
    why = findings.layer.reason()
    if profile.layer != findings.layer.layer:
        why = f"layer {profile.layer}: as asked for; the rule says {why}"
    return f"chosen (*): θ_u = {theta} ({profile.threshold}), k = {profile.k}, γ = {profile.gamma:g}; {why}"


def markdown(findings: Findings, profile: Profile, learned: Comparison | None = None) -> str:
    """Return the tables as Markdown, with what was chosen."""
    lines = []
    for heading, columns, rows in sections(findings, profile, _wide, learned):
        lines += [f"### {heading}", "", _row(columns), _row(["---"] + ["---:"] * (len(columns) - 1))]
        lines += [*(_row(row) for row in rows), ""]
    lines += [chosen(findings, profile), ""]
    if learned is not None:
        lines += [learned.sentence(), ""]
    lines += [f"**Warning:** {warning}\n" for warning in profile.warnings]
    return "\n".join([*lines, _LEGEND]) + "\n"


def csv_text(findings: Findings, profile: Profile, learned: Comparison | None = None) -> str:
    """Return one line a quantity: name, mean, low, high."""
    law = findings.law
    rows: list[tuple[str, Interval | None]] = []
    for suffix, line in (("", law.probability), ("_outcome", law.outcome)):
        rows += [(name + suffix, getattr(line, name)) for name in ("a", "b", "correlation", "r2_bins")]
    rows += [("mean_rejection", law.mean_rejection), ("share_below", law.share_below)]
    for outcome in findings.thresholds:
        name = outcome.name.value.replace("-", "_")
        rows += [
            (f"{field}_{name}", getattr(outcome, field)) for field in ("theta_u", "upload_rate", "reject_rate", "risk")
        ]
    for curve in findings.curves_of(profile.layer):
        rows.append((f"correlation_gamma_{curve.gamma:g}", curve.correlation))
        rows += [(f"upload_rate_gamma_{curve.gamma:g}_k_{k}", rate) for k, rate in curve.upload_rates]
    for rule in learned.rules if learned is not None else ():
        rows += [(f"caught_{rule.rule}", rule.wanted.caught), (f"gain_{rule.rule}", rule.wanted.gain)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("quantity", "mean", "low", "high"))
    writer.writerows((name, *((v.mean, v.low, v.high) if v else ("", "", ""))) for name, v in rows)
    return text.getvalue()


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _wide(value: Interval | None, scale: int) -> str:
    if value is None:
        return DASH
    digits = 3 if scale == 1 else 1
    mean, low, high = (f"{scale * number:.{digits}f}" for number in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def _narrow(value: Interval | None, scale: int) -> str:
    """The same with half the interval's length."""
    if value is None:
        return DASH
    digits = 3 if scale == 1 else 1
    return f"{scale * value.mean:.{digits}f} ±{scale * value.half_width:.{digits}f}"
