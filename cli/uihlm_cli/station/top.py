"""`uihlm-bs top`: a live view of a base station that serves metrics."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from uihlm_basestation.observing.reading import Reading, fetch
from uihlm_cli.errors import reported
from uihlm_cli.options.flags import format_option, option
from uihlm_cli.station.table import Line, lines_of, rich_table, text


@click.command("top")
@option(
    "--metrics",
    metavar="URL",
    default="http://127.0.0.1:9464/metrics",
    help="The metrics page of a base station (serve --metrics-port).",
)
@option("--interval-s", type=click.FloatRange(0.1), default=2.0, help="Time between two looks, seconds.")
@option("--once", is_flag=True, help="Look once and end.")
@format_option
def command(metrics: str, interval_s: float, once: bool, format: str) -> None:
    """Watch a base station: sessions, rounds, batches, waits, acceptance and bits.

    Reads the metrics that `uihlm-bs serve --metrics-port 9464` serves. "now" is the time since the look before, "since start"
    the life of the process; quantiles are read from histograms. On a terminal the table stays in place until Ctrl-C; into a
    pipe a plain one is printed at every look.

    \b
      uihlm-bs top
      uihlm-bs top --once
      uihlm-bs top --metrics http://bs.example:9464/metrics --interval-s 10 --format json >> bs.jsonl

    Exit codes: 0 looked once, 1 error, 2 usage, 4 no metrics there, 130 interrupted.
    """
    with reported():
        looks = _looks(metrics, interval_s)
        if once or format != "table" or not sys.stdout.isatty():
            for reading, lines in looks:
                click.echo(text(reading, lines, format))
                if once:
                    return
                if format != "json":
                    click.echo()
        from rich.live import Live

        with Live(auto_refresh=False) as live:
            for reading, lines in looks:
                live.update(rich_table(reading, lines), refresh=True)


def _looks(url: str, interval_s: float) -> Iterator[tuple[Reading, list[Line]]]:
    """Look at the page again and again."""
    before: Reading | None = None
    while True:
        reading = Reading.of(fetch(url, timeout_s=5.0), time.time())
        yield reading, lines_of(reading, before and reading.since(before))
        before = reading
        time.sleep(interval_s)
