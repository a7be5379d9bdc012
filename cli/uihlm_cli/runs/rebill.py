"""`uihlm-device rebill`: price a saved run under other settings, without running a model."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import SomeSamplesFailed, reported
from uihlm_cli.options.flags import FOLDER, OUTPUT_FOLDER, format_option, option
from uihlm_cli.options.groups import config_option, energy_options, link_options
from uihlm_cli.options.settings import link_settings
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, differences
from uihlm_wireless.settings import LinkSettings, profile

# What a named link says; the rest of `LinkSettings` is set by flags alone.
_NAMED = ("radio", "rtt_s", "grant_delay_s", "downlink", "trace")


@click.command("rebill")
@click.argument("run", type=FOLDER)
@option(
    "--output",
    type=OUTPUT_FOLDER,
    help="Folder of the new run, not there yet or empty.  [default: runs/rebill-<time>]",
)
@config_option
@link_options("paper", ClockMode.SIMULATED)
@energy_options
@format_option
def command(run: Path, **values: Any) -> None:
    """Price the saved RUN under other settings, without running a model.

    RUN is the folder of an eval or a sweep. Its tokens, rounds and bytes stay as they are; seconds, model bits, joules and
    what follows from them become those of a fresh run under the settings given here. A flag that is left out keeps what the
    run was made with, so measured compute stays that of the saved run unless --draft-time-s and --forward-time-s fix it.
    --link takes radio, RTT, grant and downlink from a named link, and leaves a trace.

    \b
      uihlm-device rebill runs/mine --link nr
      uihlm-device rebill runs/mine --bandwidth-hz 5e6 --b-prob 16 --output runs/mine-5mhz
      uihlm-device rebill runs/mine --link-trace drive.csv
      uihlm-device rebill runs/mine --fading slotted --fading-seed 7 --format json

    The new folder is a run like the old one: results.json says what it was billed from, and scores are carried over.
    Joules that a meter read stay as they were read; the modelled ones beside them are priced anew. Bills
    are made on the virtual clock. Runs whose tokens or rounds depend on the clock are refused. Exit codes: 0 done, 1
    error, 2 usage, 3 the saved run has failed answers, 4 a message would not get through on this link.
    """
    from rich.console import Console

    from uihlm_evaluation.report.folder import RunFolder
    from uihlm_evaluation.results.rebill import rebill
    from uihlm_evaluation.results.saved import SavedRun
    from uihlm_evaluation.results.table import TableFormat, render
    from uihlm_evaluation.sweeps.table1 import write_table1

    with reported():
        saved = SavedRun.read(run)
        config = repriced(saved.config, values)
        output: Path = values["output"] or Path("runs") / datetime.now().strftime("rebill-%Y%m%d-%H%M%S")
        results = rebill(saved, config, output)
        if config.grid:
            write_table1(RunFolder.read(output))
        changed = differences(saved.config.to_dict(), config.to_dict())
        click.echo(f"billed again with {', '.join(changed) or 'the same prices'}", err=True)
        if any(result.measured_j is not None or result.measured_device_j is not None for result in results):
            click.echo("note: measured joules are those of the saved run; modelled ones are billed again", err=True)
        render(results, TableFormat(values["format"]), Console(), saved.document["provenance"]["metric_hash"])
        click.echo(f"written to {output}", err=True)
        failed = [sample for sample in saved.samples.values() if sample.failed]
        if failed:
            raise SomeSamplesFailed(
                f"{len(failed)} of {len(saved.samples)} answers had failed in {run} and stay failed"
            )


def repriced(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """Return the settings with the prices that flags gave; what no flag speaks of stays."""
    link = link_settings(values, _start(config.link, values["link"]))
    timing = _given(
        draft_s=values["draft_time_s"], forward_s=values["forward_time_s"], position_s=values["position_time_s"]
    )
    watts = _given(device_w=values["device_w"], basestation_w=values["basestation_w"])
    if link.radio != config.link.radio:
        watts["transmit_w"] = 0.0 if link.radio is None else link.radio.transmit_power_w
    return replace(
        config,
        link=link,
        clock=ClockMode.SIMULATED,
        timing=replace(config.timing, **timing),
        joules=replace(config.joules, **watts),
    )


def _start(link: LinkSettings, name: str | None) -> LinkSettings:
    if name is None:
        return link
    named = profile(name)
    return replace(link, **{field: getattr(named, field) for field in _NAMED})


def _given(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _without_defaults(parameters: list[click.Parameter]) -> list[click.Parameter]:
    """Return the flags that change a price; left out, each keeps the run's own, and the clock is the virtual one."""
    kept = [parameter for parameter in parameters if parameter.name != "clock"]
    for flag in kept:
        if isinstance(flag, click.Option) and flag.name not in ("output", "config", "format"):
            flag.default = None
            flag.help = re.sub(r"  \[default: .*\]$", "", flag.help or "") + "  [default: the saved run's]"
    return kept


command.params = _without_defaults(command.params)
