"""What `calibrate` and `trace` do around a trace: its settings, what they show of it, and what an interruption leaves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from uihlm_cli.options.flags import F, Values, option
from uihlm_cli.options.settings import llm_name
from uihlm_cli.options.weights import llm_dtype
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.uncertainty import Estimator
from uihlm_evaluation.calibration.tracing import PARTS, Progress
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, Selection
from uihlm_proto.errors import UnavailableError
from uihlm_proto.sampling import Sampling

# Prompts, where neither --limit nor --sample says otherwise.
LIMIT = 60

hidden_option: Callable[[F], F] = option(
    "--hidden/--no-hidden",
    default=True,
    help="Keep the drafter's hidden states in the trace.",
)


def check_codec(values: Values) -> None:
    """Raise click.UsageError for a codec whose verdicts tell nothing of x."""
    if values["codec"] == "coupled":
        raise click.UsageError("--codec coupled sends no distribution, so nothing can be learnt of it: leave it out")


def trace_config(values: Values) -> RunConfig:
    """Return the settings of the trace; what only its reading depends on is not among them."""
    limit = values["limit"] or (None if values["sample"] else LIMIT)
    return RunConfig(
        selection=Selection(values["dataset"], limit, values["offset"], values["sample"], values["seed"]),
        policies=("hlm",),
        decode=DecodeSettings(
            Sampling(values["temperature"], values["top_k"], values["top_p"]),
            max_tokens=values["max_tokens"],
            estimator=Estimator(values["estimator"]),
        ),
        codec=values["codec"],
        clock=ClockMode.SIMULATED,
        model=values["model"],
        llm=llm_name(values),
        llm_dtype=llm_dtype(values, llm_name(values)),
        threads=values["threads"],
        backend=values["backend"],
    )


@contextlib.contextmanager
def whole_prompts_kept(output: Path) -> Iterator[None]:
    """Say how to go on, if the block is interrupted or loses its base station after a prompt was answered."""
    try:
        yield
    except (KeyboardInterrupt, UnavailableError):
        if any((output / PARTS).glob("*.npz")):
            click.echo(f"whole prompts are kept: the same flags and --resume --output {output} go on", err=True)
        raise


@contextlib.contextmanager
def shown_progress(total: int) -> Iterator[Callable[[Progress], None]]:
    """Yield what is to be told of each prompt: a bar on a terminal, a line every tenth of the way elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_progress()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("prompts", total=total)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, description=_counts(progress))

        yield show


def _plain_progress() -> Callable[[Progress], None]:
    started_s = time.monotonic()

    def show(progress: Progress) -> None:
        done, total = progress.done, progress.total
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            left_s = (time.monotonic() - started_s) / done * (total - done)
            click.echo(f"{done}/{total} prompts; {_counts(progress)}; {left_s:.0f} s to go", err=True)

    return show


def _counts(progress: Progress) -> str:
    rate = f"{progress.rejected / progress.tokens:.0%}" if progress.tokens else "–"
    return f"{progress.tokens} tokens, rejected {rate}"
