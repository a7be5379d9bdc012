"""`uihlm-device sweep`: every row of a grid over a data set, and their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uihlm_cli.errors import SomeSamplesFailed, reported
from uihlm_cli.options.access import access_of
from uihlm_cli.options.flags import Values, format_option, option
from uihlm_cli.options.groups import (
    audit_options,
    config_option,
    decode_options,
    energy_options,
    grid_options,
    link_options,
    model_options,
    run_options,
    selection_options,
    upload_options,
)
from uihlm_cli.options.meters import OpenMeter, meter_options, open_meter
from uihlm_cli.options.outages import outage_options
from uihlm_cli.options.settings import run_config
from uihlm_cli.runs.frame import check_resume, chosen_prompts, kept_when_cut_off, output_folder, selection_of
from uihlm_device.rules.policies import names
from uihlm_evaluation.prompts.datasets import Dataset
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, Selection
from uihlm_evaluation.runs.meters import MeterKind
from uihlm_evaluation.sweeps.grid import KNOBS, PAPER_POLICIES, grid
from uihlm_models.machine import available_cores

if TYPE_CHECKING:
    from uihlm_evaluation.runs.rows import Row
    from uihlm_evaluation.sweeps.compute_times import ComputeTimes
    from uihlm_evaluation.sweeps.side_by_side import OpenWorker

_PAPER = "slm, llm, hlm, u, i for each k, ui for each k and γ"


@click.command("sweep")
@config_option
@selection_options
@option(
    "--policy",
    multiple=True,
    help=f"Policy of the grid, crossed with the knobs it reads; repeat for more.  [default: the paper's: {_PAPER}]",
)
@grid_options
@option(
    "--controls/--no-controls",
    default=True,
    help="Add random, confidence and u-random, set to upload as often as u and ui did.",
)
@decode_options
@upload_options
@audit_options
@link_options("paper", ClockMode.SIMULATED)
@energy_options
@meter_options
@model_options
@outage_options("fail")
@option(
    "--jobs",
    type=click.IntRange(1),
    help="Prompts at once, each in a process.  [default: every core]",
)
@run_options("sweep", "List the rows, and stop.")
@format_option
def command(**values: Any) -> None:
    """Run a grid of policies and knobs over a data set: by default the paper's Table I, with the LLM alone and controls.

    Prompts run side by side, one process each; rows of a prompt share what they have in common, which changes no token. So
    compute times are measured alone first, and charged to every row. The folder is that of `eval`, with the paper's row beside
    each of ours in table1.md, table1.csv and table1.json.

    \b
      uihlm-device sweep --dataset alpaca --limit 100
      uihlm-device sweep --policy u --policy confidence --theta-u 0.4 --theta-u 0.6 --theta-c 0.3 --theta-c 0.5
      uihlm-device sweep --output runs/table1 --resume

    Exit codes are those of `eval`; an interrupted sweep goes on with --resume from the first prompt that is not done.
    """
    check_resume(values, "sweep")
    with reported():
        selection = selection_of(values)
        config = sweep_config(values, selection)
        _check_jobs(values)
        meter = open_meter(values)
        config = replace(config, meter=None if meter is None else meter.facts.kind)
        dataset = chosen_prompts(selection)
        output = output_folder(values, "sweep")
        if values["dry_run"]:
            click.echo(f"{len(config.rows)} rows over {len(dataset.examples)} prompts of {dataset.label}")
            for row in config.rows:
                click.echo(f"  {row.label}")
            if values["controls"]:
                click.echo("and controls at the upload rates of u and ui")
            return
        with kept_when_cut_off(output):
            _sweep(config, dataset, output, values, meter)


def _check_jobs(values: Values) -> None:
    if values["meter"] != MeterKind.MODEL.value and values["jobs"] not in (None, 1):
        raise click.BadParameter(
            f"prompts side by side draw their joules from one meter, which cannot tell them apart: with --meter "
            f"{values['meter']} leave --jobs out, or at 1",
            param_hint="--jobs",
        )


def sweep_config(values: Values, selection: Selection) -> RunConfig:
    """Return the settings with their grid; flags that repeat span it, and a profile's θ_u stands where no flag does."""
    for name in values["policy"]:
        if name not in names():
            raise click.BadParameter(
                f"unknown policy {name!r}: choose from {', '.join(names())}", param_hint="--policy"
            )
    own = RunConfig()
    plain = {"k": own.rules.k, "gamma": own.decode.gamma, "theta_c": own.rules.theta_c, "rate": own.rules.rate}
    profile = values["profile"]
    theta_u = own.rules.theta_u if profile is None else profile.knobs.get("theta_u", own.rules.theta_u)
    policies = tuple(values["policy"]) or PAPER_POLICIES
    config = run_config({**values, **plain, "theta_u": theta_u}, policies, selection)
    rows = grid(config, policies, {knob: values[knob] for knob in KNOBS if values[knob]})
    return replace(
        config, policies=tuple(dict.fromkeys(row.policy for row in rows)), grid=rows, agreement=values["agreement"]
    )


def _sweep(config: RunConfig, dataset: Dataset, output: Path, values: Values, meter: OpenMeter | None) -> None:
    from rich.console import Console

    from uihlm_cli.assembly import find_models, vocabulary_size
    from uihlm_cli.options.profiles import check_profile
    from uihlm_cli.runs.conclusion import conclude_and_show, hashes
    from uihlm_cli.runs.progress import shown_progress
    from uihlm_cli.runs.sweep_worker import SweepWorker
    from uihlm_evaluation.report.folder import RunFolder
    from uihlm_evaluation.sweeps.sweep import Machinery, sweep
    from uihlm_evaluation.sweeps.table1 import write_table1

    console = Console(stderr=True)
    meter = None if meter is None else meter.rested(values["meter_idle_s"])
    window = None if meter is None else meter.window
    models = find_models(config)
    check_profile(values, config, models)
    cores = available_cores()
    # One meter cannot tell answers apart that are written at once.
    jobs = min(values["jobs"] or (cores if meter is None else 1), len(dataset.examples))
    side_by_side = replace(config, threads=config.threads or max(1, cores // jobs))

    access = access_of(values)

    def worker(rows: Sequence[Row], times: ComputeTimes) -> OpenWorker:
        return SweepWorker(side_by_side, rows, times, values["server"], values["timeout_s"], access, window)

    def measured() -> ComputeTimes:
        return _measured(config, dataset, values)

    total = len(dataset.examples) * len(config.rows)
    with shown_progress(console, total) as on_progress:
        config, samples = sweep(
            config,
            dataset,
            output,
            resume=values["resume"],
            controls=values["controls"],
            machinery=Machinery(measured, worker, jobs),
            on_progress=on_progress,
            weights=hashes(models),
        )
    try:
        conclude_and_show(config, dataset, output, models, vocabulary_size(models), samples, values, console, meter)
    except SomeSamplesFailed:
        write_table1(RunFolder.read(output))
        raise
    write_table1(RunFolder.read(output))


def _measured(config: RunConfig, dataset: Dataset, values: Values) -> ComputeTimes:
    """Return the compute times: those of the flags, or measured alone with every core."""
    from uihlm_cli.runs.sweep_worker import SweepWorker
    from uihlm_evaluation.sweeps.compute_times import ComputeTimes, measure
    from uihlm_evaluation.sweeps.controls import awaited_controls

    timing = config.timing
    # A control may compute what no row of the grid does, and less.
    rows = (*config.rows, *(awaited_controls(config.rows) if values["controls"] else ()))
    if timing.draft_s is not None and timing.forward_s is not None:
        return ComputeTimes.fixed(rows, timing.draft_s, timing.forward_s, timing.position_s)
    click.echo("measuring compute times with nothing beside …", err=True)

    def alone(own: RunConfig) -> ComputeTimes:
        with SweepWorker(own, rows, None, values["server"], values["timeout_s"], access_of(values))() as answer:
            return measure(rows, dataset.examples, answer)

    # Drafts one at a time: what a block or a tree drafted in vain stands on the lines of others.
    single = replace(config, decode=replace(config.decode, draft_length=1, draft_p_min=0.0, tree=0, in_flight=1))
    times = alone(single)
    if single == config:
        return times
    # But forwards as they will be: of single drafts alone nobody learns what a further position takes.
    asked = alone(config)
    return replace(times, forward_s=asked.forward_s, position_s=asked.position_s)
