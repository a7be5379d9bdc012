"""`uihlm-device report`: a saved run, or the paper's table, as something to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.flags import OUTPUT_FOLDER, format_option, option

if TYPE_CHECKING:
    from uihlm_evaluation.report.folder import RunFolder


@click.command("report")
@click.argument("folder", required=False, metavar="[DIR]", type=OUTPUT_FOLDER)
@option(
    "--paper",
    is_flag=True,
    help="Print the paper's Table I beside what the `paper` timing and energy profiles give.",
)
@option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page of DIR, one HTML file.  [default: DIR/report.html]",
)
@option(
    "--figures",
    type=OUTPUT_FOLDER,
    help="Write the figures of DIR into this folder, each as SVG and PNG.  [default: none are written]",
)
@format_option
def command(**values: Any) -> None:
    """Report a saved run, or the paper's table.

    With DIR: one HTML page that needs no network: what was run, the table with intervals and the paper's rows, what comes out
    of it, the figures, and a reader that shows for each token of each answer who wrote it, why, and what it cost. The texts
    of tokens come from the drafter that the run names: it must be on this machine, as for eval. With --figures alone only
    the figures are written.

    With --paper: λ and η of the paper's 23 rows, those that the two `paper` profiles give from each row's own upload and
    reject rates, the difference, and where the constants come from. --format shapes that table.

    \b
      uihlm-device report runs/sweep
      uihlm-device report runs/sweep --output sweep.html --figures figures
      uihlm-device report --paper
      uihlm-device report --paper --format json
    """
    folder: Path | None = values["folder"]
    if values["paper"] and folder is not None:
        raise click.UsageError("--paper needs no run: leave the folder out, or the flag")
    output: Path | None = values["output"]
    figures: Path | None = values["figures"]
    if values["paper"] and (output is not None or figures is not None):
        raise click.UsageError("--paper prints a table: leave --output and --figures out, which are of a run")
    with reported():
        if values["paper"]:
            _paper(values["format"])
        elif folder is None:
            raise click.UsageError("name the folder of a run, or give --paper")
        else:
            _report(folder, output, figures)


def _paper(table_format: str) -> None:
    from rich.console import Console

    from uihlm_evaluation.report.golden_table import render_golden
    from uihlm_evaluation.results.table import TableFormat

    render_golden(TableFormat(table_format), Console())


def _report(folder: Path, output: Path | None, figures: Path | None) -> None:
    from uihlm_evaluation.report.folder import RunFolder

    run = RunFolder.read(folder)
    if figures is not None:
        _figures(run, figures)
    if output is not None or figures is None:
        _page(run, output or folder / "report.html")


def _page(run: RunFolder, output: Path) -> None:
    from uihlm_evaluation.report.page import page
    from uihlm_evaluation.report.texts import find_texts

    texts = find_texts(run)
    for notice in texts.notices:
        click.echo(f"note: {notice}", err=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(run, texts), encoding="utf-8")
    click.echo(str(output))


def _figures(run: RunFolder, output: Path) -> None:
    from uihlm_evaluation.report.figures.gallery import write_figures

    written = write_figures(run, output)
    for path in written.paths:
        click.echo(str(path))
    for name, reason in written.left_out.items():
        click.echo(f"note: no figure {name}: {reason}", err=True)
