"""The encoders of the quality scores, loaded and shown at work on stderr: a run of many answers takes a minute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from uihlm_evaluation.quality.metrics import TextMetrics


@contextlib.contextmanager
def opened_metrics(console: Any) -> Iterator[TextMetrics]:
    """Yield the metrics with a bar of the texts encoded on a terminal, a line every tenth of the way elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from uihlm_evaluation.quality.metrics import TextMetrics

    click.echo("scoring answers …", err=True)
    metrics = TextMetrics()
    if metrics.notice:
        click.echo(f"note: {metrics.notice}", err=True)
    if not console.is_terminal:
        metrics.on_progress = _tell
        yield metrics
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("texts scored", total=None)
        metrics.on_progress = lambda done, total: bar.update(task, completed=done, total=total)
        yield metrics


def _tell(done: int, total: int) -> None:
    if done * 10 // total > (done - 1) * 10 // total and total >= 100:
        click.echo(f"{done}/{total} texts scored", err=True)
