"""A plan as a reader sees it: a terminal table, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from uihlm_evaluation.planning.equations import Prediction
from uihlm_evaluation.planning.plan import Plan
from uihlm_evaluation.results.table import DASH, MIN_WIDTH, TableFormat

_HEADS = ("way", "tok/s", "J/token", "forwards", "positions", "payload bit", "risk", "")
_LEGEND = (
    "All but tok/s a token; forwards and positions are the LLM's; the prompt's prefill is left out. J: given watts × busy time "
    "of device, transmitter and base station. Risk: rejection probabilities of skipped tokens, summed, ÷ tokens. * the best of "
    "those allowed."
)


def render(plan: Plan, form: TableFormat, console: Console) -> None:
    """Write a plan to a console in one of the formats."""
    match form:
        case TableFormat.JSON:
            console.file.write(json.dumps(document(plan), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        case TableFormat.CSV:
            console.file.write(_csv(plan))
        case TableFormat.MD:
            rows = [_HEADS, ("---", *["---:"] * 6, "---"), *(_cells(plan, p) for p in plan.predictions)]
            text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
            console.file.write(f"{text}\n\n{_sentence(plan)}\n\n{_LEGEND}\n")
        case TableFormat.TABLE:
            if not console.is_terminal:
                console = Console(file=console.file, width=max(console.width, MIN_WIDTH), color_system=None)
            table = Table(box=SIMPLE_HEAD, pad_edge=False)
            for number, head in enumerate(_HEADS):
                outer = number in (0, len(_HEADS) - 1)
                table.add_column(head, justify="left" if outer else "right", no_wrap=outer)
            for prediction in plan.predictions:
                table.add_row(*_cells(plan, prediction), style="bold" if prediction is plan.best else None)
            console.print(table)
            console.print(_sentence(plan), highlight=False, markup=False, soft_wrap=True)


def document(plan: Plan) -> dict[str, object]:
    """Return the plan as plain values, for JSON."""
    return {
        "objective": plan.objective.value,
        "risk": plan.risk,
        "best": str(plan.best.way),
        "flags": plan.best.way.flags,
        "reason": plan.reason,
        "ways": [
            {
                **{name: value for name, value in dataclasses.asdict(prediction).items() if name != "way"},
                "way": str(prediction.way),
                "flags": prediction.way.flags,
                "refused": plan.refusal(prediction),
            }
            for prediction in plan.predictions
        ],
    }


def _sentence(plan: Plan) -> str:
    return f"{plan.reason}.  ({plan.best.way.flags})"


def _cells(plan: Plan, prediction: Prediction) -> tuple[str, ...]:
    best = prediction is plan.best
    return (
        f"{prediction.way}{' *' if best else ''}",
        f"{prediction.tok_s:.3g}",
        f"{prediction.joules:.3g}",
        f"{prediction.forwards:.2f}",
        f"{prediction.positions:.2f}",
        f"{prediction.payload_bit:,.1f}",
        DASH if prediction.risk is None else f"{prediction.risk:.3f}",
        plan.refusal(prediction) or ("best" if best else ""),
    )


def _csv(plan: Plan) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("tok_s", "joules", "forwards", "positions", "payload_bit", "risk")
    writer.writerow(["way", *names, "flags", "refused", "best"])
    for prediction in plan.predictions:
        values = ["" if (value := getattr(prediction, name)) is None else value for name in names]
        refused = plan.refusal(prediction) or ""
        writer.writerow([prediction.way, *values, prediction.way.flags, refused, int(prediction is plan.best)])
    return out.getvalue()
