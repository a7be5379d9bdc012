"""What a run over many prompts shows while it goes on: a bar with ETA on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from uihlm_evaluation.runs.runner import Progress
from uihlm_evaluation.runs.samples import Sample

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def shown_progress(console: Console, total: int) -> Iterator[Callable[[Progress], None]]:
    """Yield what is to be told of each answer, `total` of them; all goes to the console, which is stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    counts = _Counts()
    if not console.is_terminal:
        yield _plain(counts)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("answers", total=total)

        def show(progress: Progress) -> None:
            counts.add(progress.sample)
            bar.update(task, completed=progress.done, total=progress.total, description=counts.line())

        yield show


def _plain(counts: _Counts) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        counts.add(progress.sample)
        if (
            progress.done == progress.total
            or progress.done * 10 // progress.total > (progress.done - 1) * 10 // progress.total
        ):
            click.echo(f"{progress.done}/{progress.total} answers; {counts.line()}", err=True)

    return show


class _Counts:
    """Running upload rate and acceptance over all policies that can upload."""

    def __init__(self) -> None:
        self.tokens = self.uploaded = self.rejected = 0

    def add(self, sample: Sample) -> None:
        """Count one answer."""
        if sample.policy not in ("slm", "llm"):
            self.tokens += sample.tokens
        self.uploaded += sample.uploaded
        self.rejected += sample.rejected

    def line(self) -> str:
        """Return both rates in words."""
        upload = f"{self.uploaded / self.tokens:.0%}" if self.tokens else "–"
        accepted = f"{1 - self.rejected / self.uploaded:.0%}" if self.uploaded else "–"
        return f"uploaded {upload}, accepted {accepted}"
