"""What `eval` and `sweep` do around a run: which prompts, which folder, and what an interruption leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from uihlm_cli.options.flags import Values
from uihlm_evaluation.prompts.datasets import Dataset, load, select
from uihlm_evaluation.runs.configuration import Selection
from uihlm_evaluation.runs.runner import SAMPLES
from uihlm_proto.errors import UnavailableError


def check_resume(values: Values, what: str) -> None:
    """Raise click.UsageError if there is nothing to resume."""
    if values["resume"] and values["output"] is None:
        raise click.UsageError(f"--resume needs --output: the folder of the {what} to go on with")


def selection_of(values: Values) -> Selection:
    """Return which prompts the flags choose."""
    return Selection(*(values[name] for name in ("dataset", "limit", "offset", "sample", "seed")))


def chosen_prompts(selection: Selection) -> Dataset:
    """Return the prompts; what is to be known of their source goes to stderr."""
    whole = load(selection.dataset)
    if whole.notice:
        click.echo(f"note: {whole.notice}", err=True)
    return select(whole, selection.limit, selection.offset, selection.sample, selection.seed)


def output_folder(values: Values, what: str) -> Path:
    """Return the folder named, or one named after the time."""
    named: Path | None = values["output"]
    return named or Path("runs") / datetime.now().strftime(f"{what}-%Y%m%d-%H%M%S")


@contextlib.contextmanager
def kept_when_cut_off(output: Path) -> Iterator[None]:
    """Say how to go on, if the block is interrupted or loses its base station after something was done."""
    try:
        yield
    except (KeyboardInterrupt, UnavailableError):
        if (output / SAMPLES).is_file() and (output / SAMPLES).stat().st_size:
            click.echo(f"what is done is kept: the same flags and --resume --output {output} go on with it", err=True)
        raise
