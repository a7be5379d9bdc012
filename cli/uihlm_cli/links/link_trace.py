"""`uihlm-device link-trace`: make a link's trace with Sionna."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.flags import option
from uihlm_cli.options.groups import config_option
from uihlm_wireless.nr_trace import MODELS, NrSettings

_DEFAULT = NrSettings(snr_db=10.0)


@click.command("link-trace")
@config_option
@option("--snr-db", type=float, default=_DEFAULT.snr_db, help="Mean SNR of the occupied band, dB.")
@option(
    "--model",
    type=click.Choice(MODELS),
    default=_DEFAULT.model,
    help="TDL profile of TR 38.901 (D, E: line of sight), or a place in its urban microcell (UMi), drawn by --seed.",
)
@option(
    "--delay-spread-s",
    type=click.FloatRange(0),
    default=_DEFAULT.delay_spread_s,
    help="RMS delay spread of a profile, s.",
)
@option("--speed-m-s", type=click.FloatRange(0), default=_DEFAULT.speed_m_s, help="Speed of the device, m/s.")
@option("--carrier-hz", type=click.FloatRange(0, min_open=True), default=_DEFAULT.carrier_hz, help="Carrier, Hz.")
@option(
    "--resource-blocks",
    type=click.IntRange(1),
    default=_DEFAULT.resource_blocks,
    help="Bandwidth, in blocks of 12 subcarriers.",
)
@option(
    "--subcarrier-spacing-hz",
    type=float,
    default=_DEFAULT.subcarrier_spacing_hz,
    help="15, 30, 60 or 120 kHz; a slot takes 1 ms at 15 kHz.",
)
@option("--mcs-table", type=int, default=_DEFAULT.mcs_table, help="1 is up to 64QAM, 2 up to 256QAM.")
@option(
    "--bler-target",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=_DEFAULT.bler_target,
    help="Share of blocks that link adaptation lets fail.",
)
@option(
    "--duration-s", type=click.FloatRange(0, min_open=True), default=_DEFAULT.duration_s, help="Length of the trace, s."
)
@option("--seed", type=click.IntRange(0), default=_DEFAULT.seed, help="Seed of channel and block errors.")
@option("--output", type=click.Path(dir_okay=False, path_type=Path), help="CSV to write.  [default: stdout]")
def command(output: Path | None, **values: Any) -> None:
    """Make a trace for --link-trace: what 5G NR carries over a fading channel, slot by slot.

    3GPP TR 38.901 TDL or UMi fading, EESM, outer-loop link adaptation, block error rates of the NR codes: all Sionna's (extra
    `sionna`). A lost block is sent anew, without soft combining. The CSV has a rate a slot, in bit/s; its comments say
    what made it. Beside it on stderr: the mean rate, blocks lost, and what Shannon's formula gives on the same channel.

    \b
      uihlm-device link-trace --snr-db 10 --output walk.csv
      uihlm-device link-trace --snr-db 0 --model A --speed-m-s 15 --duration-s 60 --seed 3 --output drive.csv
      uihlm-device eval --link-trace walk.csv

    Some 3 ms a slot on an idle core. Exit codes: 0 done, 1 error (Sionna is not installed), 2 usage.
    """
    with reported():
        from rich.console import Console
        from rich.progress import Progress

        from uihlm_proto.errors import InvalidRequestError
        from uihlm_wireless.nr_trace import nr_trace, versions
        from uihlm_wireless.trace_file import csv_text

        del values["config"]
        try:
            settings = NrSettings(**values)
        except InvalidRequestError as error:
            raise click.UsageError(str(error)) from error
        made_by = versions()
        console = Console(stderr=True)
        # Silent where nobody looks on.
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("slots", total=settings.slots)
            found = nr_trace(settings, lambda done: progress.update(task, completed=done))
        told = ", ".join(f"{name} {value}" for name, value in asdict(settings).items())
        words = (
            f"{found.mean_rate_bit_s / 1e6:.4g} Mbit/s, {found.error_rate:.1%} of blocks lost, mean MCS {found.mean_mcs:.1f}; "
            f"Shannon on this channel: {found.shannon_bit_s / 1e6:.4g} Mbit/s"
        )
        text = csv_text(found.rates_bit_s, found.slot_s, (f"uihlm-device link-trace: {told}", made_by, words))
        if output is None:
            click.echo(text, nl=False)
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8", newline="\n")
        click.echo(words, err=True)
        if not any(found.rates_bit_s):
            click.echo("warning: not one block got through: --link-trace will refuse this trace", err=True)
