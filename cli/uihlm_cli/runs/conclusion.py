"""The end of a run on the command line: scores, results, the table on stdout, and the exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from uihlm_cli.errors import SomeSamplesFailed
from uihlm_cli.options.flags import Values
from uihlm_cli.options.meters import OpenMeter
from uihlm_cli.runs.joules import measured_by_wall
from uihlm_evaluation.prompts.datasets import Dataset
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.samples import Sample

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from uihlm_cli.assembly import Models
    from uihlm_models.sources import ModelSource


def _sources(models: Models) -> list[tuple[str, ModelSource]]:
    return [("slm", models.slm)] + ([("llm", models.llm)] if models.llm else [])


def hashes(models: Models) -> dict[str, str]:
    """Return the SHA-256 of the weights here, by role; of a base station somewhere else nothing is known."""
    from uihlm_models.sources import file_sha256

    return {role: file_sha256(source) for role, source in _sources(models)}


def conclude_and_show(
    config: RunConfig,
    dataset: Dataset,
    output: Path,
    models: Models,
    vocabulary_size: int,
    samples: Sequence[Sample],
    values: Values,
    console: RichConsole,
    meter: OpenMeter | None = None,
) -> None:
    """Score the samples, write the results into the run's folder and print their table.

    Raises:
        SomeSamplesFailed: if an answer failed; everything is written all the same.
        click.UsageError: if a wall meter's file does not do; everything but its joules is written.
    """
    from rich.console import Console

    from uihlm_cli.runs.scoring import opened_metrics
    from uihlm_evaluation.results.outcome import ModelFacts, conclude
    from uihlm_evaluation.results.table import TableFormat, outages, render
    from uihlm_models.sources import file_sha256

    facts = [ModelFacts(role, own.label, file_sha256(own), own.commit) for role, own in _sources(models)]
    with opened_metrics(console) if values["metrics"] else contextlib.nullcontext() as metrics:
        said = None if meter is None else meter.facts.to_json()
        concluded = conclude(output, config, dataset, facts, vocabulary_size, samples, metrics, said)
    results, unmeasured = measured_by_wall(output, concluded, meter)
    render(results, TableFormat(values["format"]), Console(), metrics.hash if metrics else None)
    if lost := outages(results):
        click.echo(f"note:{lost}", err=True)
    click.echo(f"written to {output}", err=True)
    if unmeasured is not None:
        raise click.UsageError(
            f"{unmeasured}\nThe run is whole but for these joules; with a file that does, `uihlm-device joules {output} "
            "--meter-device FILE` puts them in"
        )
    failed = [sample for sample in samples if sample.failed]
    if failed:
        raise SomeSamplesFailed(
            f"{len(failed)} of {len(samples)} answers failed, the first: prompt {failed[0].prompt} under "
            f"{failed[0].policy}: {failed[0].error}"
        )
