"""`uihlm-device report`: a saved run, or the paper's table, as something to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options import format_option


@click.command("report")
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--paper",
    is_flag=True,
    show_envvar=True,
    help="Print the paper's Table I beside what the `paper` timing and energy profiles give.",
)
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    show_envvar=True,
    help="Write the figures of DIR into this folder, each as SVG and PNG.  [default: none are written]",
)
@format_option
def command(**values: Any) -> None:
    """Report a saved run, or the paper's table.

    With --paper: λ and η of the paper's 23 rows, those that the two `paper` profiles give from each row's own upload and
    reject rates, the difference, and where the constants come from. --format shapes that table.

    \b
      uihlm-device report runs/sweep --figures figures
      uihlm-device report --paper
      uihlm-device report --paper --format json
    """
    folder: Path | None = values["folder"]
    if values["paper"] and folder is not None:
        raise click.UsageError("--paper needs no run: leave the folder out, or the flag")
    with reported():
        if values["paper"]:
            _paper(values["format"])
        elif folder is None:
            raise click.UsageError("name the folder of a run, or give --paper")
        elif values["figures"] is not None:
            _figures(folder, values["figures"])
        else:
            raise click.UsageError("say what to make of the run: --figures FOLDER")


def _paper(table_format: str) -> None:
    from rich.console import Console

    from uihlm_evaluation.report.golden_table import render_golden
    from uihlm_evaluation.runs.table import TableFormat

    render_golden(TableFormat(table_format), Console())


def _figures(folder: Path, output: Path) -> None:
    from uihlm_evaluation.report.figures import write_figures
    from uihlm_evaluation.report.folder import RunFolder

    written = write_figures(RunFolder.read(folder), output)
    for path in written.paths:
        click.echo(str(path))
    for name, reason in written.left_out.items():
        click.echo(f"note: no figure {name}: {reason}", err=True)
