"""`uihlm-device joules`: lay a wall meter's file over a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.flags import FOLDER, format_option
from uihlm_cli.options.groups import config_option
from uihlm_cli.options.meters import OpenMeter, meter_files_options
from uihlm_evaluation.runs.meters import MeterFiles, MeterKind
from uihlm_proto.errors import InvalidRequestError

if TYPE_CHECKING:
    from uihlm_evaluation.results.policy_result import PolicyResult


@click.command("joules")
@click.argument("run", type=FOLDER)
@meter_files_options
@config_option
@format_option
def command(run: Path, **values: Any) -> None:
    """Put the joules of wall meters into the finished RUN.

    RUN is the folder of an eval or a sweep made with --meter csv, which noted on the wall clock when each answer began and
    ended. The files are CSV with a line of column names: a time (time, timestamp: ISO 8601 with an offset, or seconds since
    1970) and a value (watts; joules or watt_hours counted from any start). Both clocks must be set. The folder's samples.jsonl,
    results.json and table.md change in what was measured, and in nothing else; a file laid over it before gives way.

    \b
      uihlm-device eval --limit 10 --meter csv --meter-device wall.csv --output runs/mine
      uihlm-device joules runs/mine --meter-device wall.csv

    Exit codes: 0 done, 1 error, 2 usage, or a file that cannot be read or does not cover an answer.
    """
    from rich.console import Console

    from uihlm_evaluation.results.metering import lay_over, resolution
    from uihlm_evaluation.results.saved import SavedRun
    from uihlm_evaluation.results.table import TableFormat, render

    with reported():
        files = MeterFiles(values["meter_device"], values["meter_basestation"])
        try:
            results = lay_over(run, files)
        except InvalidRequestError as error:
            raise click.UsageError(str(error)) from error
        saved = SavedRun.read(run)
        click.echo(resolution(saved), err=True)
        render(results, TableFormat(values["format"]), Console(), saved.document["provenance"]["metric_hash"])
        click.echo(f"written to {run}", err=True)


def measured_by_wall(
    output: Path, results: Sequence[PolicyResult], meter: OpenMeter | None
) -> tuple[Sequence[PolicyResult], str | None]:
    """Return the results of a run that has just ended, with a wall meter's joules in them, or why they are not."""
    if meter is None or meter.facts.kind != MeterKind.CSV.value:
        return results, None
    from uihlm_evaluation.results.metering import lay_over, resolution
    from uihlm_evaluation.results.saved import SavedRun

    try:
        results = lay_over(output, meter.files)
    except (InvalidRequestError, OSError) as error:
        return results, str(error)
    click.echo(resolution(SavedRun.read(output)), err=True)
    return results, None
