"""`uihlm-device eval`: run policies over a data set."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import SomeSamplesFailed, reported
from uihlm_cli.options import (
    config_option,
    decode_options,
    energy_options,
    format_option,
    link_options,
    model_options,
    rule_options,
    run_config,
    selection_options,
)
from uihlm_device.policies import names
from uihlm_evaluation.prompts.datasets import Dataset, load, select
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES, ClockMode, RunConfig, Selection
from uihlm_evaluation.runs.runner import SAMPLES, Bench, Progress, run
from uihlm_evaluation.runs.samples import Sample
from uihlm_proto.errors import UnavailableError


@click.command("eval")
@config_option
@selection_options
@click.option(
    "--policy",
    multiple=True,
    show_envvar=True,
    help=f"Policy to run; repeat for more, or `all`.  [default: {' '.join(DEFAULT_POLICIES)}]",
)
@rule_options
@decode_options
@link_options("paper", ClockMode.SIMULATED)
@energy_options
@model_options
@click.option(
    "--metrics/--no-metrics", default=True, show_default=True, show_envvar=True, help="BERTScore and cosine similarity."
)
@click.option(
    "--agreement/--no-agreement",
    default=True,
    show_default=True,
    show_envvar=True,
    help="The LLM scores the tokens of each answer after it, unbilled and untimed.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    show_envvar=True,
    help="Results folder.  [default: runs/eval-<time>]",
)
@click.option("--resume", is_flag=True, show_envvar=True, help="Go on with the run in --output.")
@click.option("--dry-run", is_flag=True, show_envvar=True, help="Say what would be run, and stop.")
@format_option
def command(**values: Any) -> None:
    """Run policies over a data set and write a results folder.

    Every prompt is answered under every policy, with common random numbers, through a real base station; quality, bits,
    seconds, joules and LLM forwards are reported beside each other. With no flags: 100 Alpaca prompts, the bundled pair, the
    paper's link on a virtual clock, and the policies slm, llm, hlm, u, i, ui.

    \b
      uihlm-device eval --dataset alpaca --limit 10
      uihlm-device eval --dataset my.jsonl --policy hlm --policy u --theta-u 0.4
      uihlm-device eval --dataset arithmetic --policy slm --policy llm --policy hlm
      uihlm-device eval --gamma 1.5 --output runs/g15
      uihlm-device eval --output runs/g15 --gamma 1.5 --resume

    The folder holds results.json (settings, seeds, versions, one object a policy), samples.jsonl (one line an answer),
    rounds.jsonl (one line a token), scores.jsonl (the quality of each answer) and table.md. Where a data set has exact
    answers, the share of right ones is reported too. Exit codes: 0 done, 1 error, 2 usage, 3 some prompts failed, 4 the
    base station cannot be reached, 130 interrupted; an interrupted run goes on with --resume.
    """
    if values["resume"] and values["output"] is None:
        raise click.UsageError("--resume needs --output: the folder of the run to go on with")
    with reported():
        selection = Selection(*(values[name] for name in ("dataset", "limit", "offset", "sample", "seed")))
        config = replace(run_config(values, _policies(values["policy"]), selection), agreement=values["agreement"])
        whole = load(selection.dataset)
        if whole.notice:
            click.echo(f"note: {whole.notice}", err=True)
        dataset = select(whole, selection.limit, selection.offset, selection.sample, selection.seed)
        output: Path = values["output"] or Path("runs") / datetime.now().strftime("eval-%Y%m%d-%H%M%S")
        if values["dry_run"]:
            _describe(config, dataset, output)
            return
        try:
            _evaluate(config, dataset, output, values)
        except (KeyboardInterrupt, UnavailableError):
            if (output / SAMPLES).is_file() and (output / SAMPLES).stat().st_size:
                click.echo(
                    f"what is done is kept: the same flags and --resume --output {output} go on with it", err=True
                )
            raise


def _policies(asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return policy names in the order given, once each; `all` stands for every known one."""
    flat = [name for entry in asked or DEFAULT_POLICIES for name in (names() if entry == "all" else [entry])]
    for name in flat:
        if name not in names():
            raise click.BadParameter(
                f"unknown policy {name!r}: choose from all, {', '.join(names())}", param_hint="--policy"
            )
    return tuple(dict.fromkeys(flat))


def _describe(config: RunConfig, dataset: Dataset, output: Path) -> None:
    answers = len(dataset.examples) * len(config.rows)
    click.echo(f"{len(dataset.examples)} prompts of {dataset.label} under {', '.join(config.policies)}")
    click.echo(
        f"at most {answers * config.decode.max_tokens} tokens in {answers} answers, seed {config.selection.seed}"
    )
    click.echo(f"drafter {config.model}, LLM {config.llm or 'of the named server'}, codec {config.codec}")
    radio = config.link.radio
    link = "no radio" if radio is None else f"{radio.bandwidth_hz / 1e6:g} MHz at {radio.snr_db:.2f} dB"
    click.echo(
        f"link: {link}, RTT {config.link.rtt_s:g} s, fading {config.link.fading.value}, {config.clock.value} clock"
    )
    click.echo(f"output: {output}")


def _evaluate(config: RunConfig, dataset: Dataset, output: Path, values: dict[str, Any]) -> None:
    from rich.console import Console

    from uihlm_cli.assembly import opened_device
    from uihlm_cli.profiles import check_profile
    from uihlm_cli.scoring import opened_metrics
    from uihlm_evaluation.runs.outcome import ModelFacts, conclude
    from uihlm_evaluation.runs.table import TableFormat, render
    from uihlm_models.sources import file_sha256

    console = Console(stderr=True)
    with opened_device(config, values["server"], values["timeout_s"]) as device:
        check_profile(values, config, device.models)
        decoders = {
            row.label: device.decoder(row.policy, row.rules, replace(config.decode, gamma=row.gamma))
            for row in config.rows
        }
        agreement = device.agreement() if config.agreement else None
        if config.agreement and agreement is None:
            click.echo("note: no policy here asks a base station, so no LLM scores the answers", err=True)
        turns, decode = device.chat_format.first_turn, device.tokenizer.decode
        bench = Bench(decoders, device.clock, device.ledger, turns, decode, agreement)
        started_s = time.monotonic()
        samples = _run_with_progress(bench, config, dataset, output, values["resume"], console)
        if agreement is not None and agreement.asked:
            share = agreement.spent_s / (time.monotonic() - started_s)
            click.echo(
                f"the LLM scored {agreement.asked} answers in {agreement.spent_s:.1f} s, {share:.0%} of the run's time; "
                "--no-agreement leaves that out",
                err=True,
            )
        vocabulary_size = device.tokenizer.vocabulary_size
        sources = [("slm", device.models.slm)] + ([("llm", device.models.llm)] if device.models.llm else [])
    facts = [ModelFacts(role, source.label, file_sha256(source), source.commit) for role, source in sources]
    with opened_metrics(console) if values["metrics"] else contextlib.nullcontext() as metrics:
        results = conclude(output, config, dataset, facts, vocabulary_size, samples, metrics)
    render(results, TableFormat(values["format"]), Console(), metrics.hash if metrics else None)
    click.echo(f"written to {output}", err=True)
    failed = [sample for sample in samples if sample.failed]
    if failed:
        raise SomeSamplesFailed(
            f"{len(failed)} of {len(samples)} answers failed, the first: prompt {failed[0].prompt} under "
            f"{failed[0].policy}: {failed[0].error}"
        )


def _run_with_progress(
    bench: Bench, config: RunConfig, dataset: Dataset, output: Path, resume: bool, console: Any
) -> list[Sample]:
    """Run with a bar on a terminal, a line every tenth of the way elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    counts = _Counts()
    if not console.is_terminal:
        return run(bench, config, dataset.examples, output, resume, _plain_progress(counts))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("answers", total=len(dataset.examples) * len(config.rows))

        def show(progress: Progress) -> None:
            counts.add(progress.sample)
            bar.update(task, completed=progress.done, total=progress.total, description=counts.line())

        return run(bench, config, dataset.examples, output, resume, show)


def _plain_progress(counts: _Counts) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        counts.add(progress.sample)
        if (
            progress.done == progress.total
            or progress.done * 10 // progress.total > (progress.done - 1) * 10 // progress.total
        ):
            click.echo(f"{progress.done}/{progress.total} answers; {counts.line()}", file=sys.stderr)

    return show


class _Counts:
    """Running upload rate and acceptance over all policies that can upload."""

    def __init__(self) -> None:
        self.tokens = self.uploaded = self.rejected = 0

    def add(self, sample: Sample) -> None:
        """Count one answer."""
        if sample.policy not in ("slm", "llm"):
            self.tokens += sample.tokens
        self.uploaded += sample.uploaded
        self.rejected += sample.rejected

    def line(self) -> str:
        """Return both rates in words."""
        upload = f"{self.uploaded / self.tokens:.0%}" if self.tokens else "–"
        accepted = f"{1 - self.rejected / self.uploaded:.0%}" if self.uploaded else "–"
        return f"uploaded {upload}, accepted {accepted}"
