"""`uihlm-device eval`: run policies over a data set."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.access import access_of
from uihlm_cli.options.flags import format_option, option
from uihlm_cli.options.groups import (
    audit_options,
    config_option,
    decode_options,
    energy_options,
    link_options,
    model_options,
    risk_options,
    rule_options,
    run_options,
    selection_options,
    upload_options,
)
from uihlm_cli.options.link_traces import trace_words
from uihlm_cli.options.load import load_option
from uihlm_cli.options.meters import OpenMeter, meter_options, open_meter
from uihlm_cli.options.outages import outage_options
from uihlm_cli.options.settings import run_config
from uihlm_cli.runs.frame import check_resume, chosen_prompts, kept_when_cut_off, output_folder, selection_of
from uihlm_device.rules.policies import names
from uihlm_evaluation.prompts.datasets import Dataset
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES, ClockMode, RunConfig
from uihlm_evaluation.runs.runner import Bench, run


@click.command("eval")
@config_option
@selection_options
@option(
    "--policy",
    multiple=True,
    help=f"Policy to run; repeat for more, or `all`.  [default: {' '.join(DEFAULT_POLICIES)}]",
)
@rule_options
@decode_options
@upload_options
@audit_options
@risk_options
@link_options("paper", ClockMode.SIMULATED)
@load_option
@energy_options
@meter_options
@model_options
@outage_options("fail")
@run_options("eval", "Say what would be run, and stop.")
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
    check_resume(values, "run")
    with reported():
        selection = selection_of(values)
        config = replace(
            run_config(values, _policies(values["policy"], values["learned"] is not None), selection),
            agreement=values["agreement"],
        )
        meter = open_meter(values)
        config = replace(config, meter=None if meter is None else meter.facts.kind)
        dataset = chosen_prompts(selection)
        output = output_folder(values, "eval")
        if values["dry_run"]:
            _describe(config, dataset, output)
            return
        with kept_when_cut_off(output):
            _evaluate(config, dataset, output, values, meter)


def _policies(asked: tuple[str, ...], with_weights: bool) -> tuple[str, ...]:
    """Return policy names in the order given, once each; `all` is every known one, `learned` only if it has weights."""
    able = [name for name in names() if name != "learned" or with_weights]
    flat = [name for entry in asked or DEFAULT_POLICIES for name in (able if entry == "all" else [entry])]
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
    link = trace_words(config.link) or link
    click.echo(
        f"link: {link}, RTT {config.link.rtt_s:g} s, fading {config.link.fading.value}, {config.clock.value} clock"
    )
    click.echo(f"output: {output}")


def _evaluate(
    config: RunConfig, dataset: Dataset, output: Path, values: dict[str, Any], meter: OpenMeter | None
) -> None:
    from rich.console import Console

    from uihlm_cli.assembly import opened_device
    from uihlm_cli.options.profiles import check_profile
    from uihlm_cli.runs.conclusion import conclude_and_show, hashes
    from uihlm_cli.runs.progress import shown_progress

    console = Console(stderr=True)
    meter = None if meter is None else meter.rested(values["meter_idle_s"])
    window = None if meter is None else meter.window
    with opened_device(config, values["server"], values["timeout_s"], access=access_of(values)) as device:
        check_profile(values, config, device.models)
        decoders = {
            row.label: device.decoder(row.policy, row.rules, replace(config.decode, gamma=row.gamma))
            for row in config.rows
        }
        agreement = device.agreement() if config.agreement else None
        if config.agreement and agreement is None:
            click.echo("note: no policy here asks a base station, so no LLM scores the answers", err=True)
        turns, decode = device.chat_format.first_turn, device.tokenizer.decode
        bench = Bench(decoders, device.clock, device.ledger, turns, decode, agreement, window)
        started_s = time.monotonic()
        with shown_progress(console, len(dataset.examples) * len(config.rows)) as on_progress:
            samples = run(bench, config, dataset.examples, output, values["resume"], on_progress, hashes(device.models))
        if agreement is not None and agreement.asked:
            share = agreement.spent_s / (time.monotonic() - started_s)
            click.echo(
                f"the LLM scored {agreement.asked} answers in {agreement.spent_s:.1f} s, {share:.0%} of the run's time; "
                "--no-agreement leaves that out",
                err=True,
            )
        vocabulary_size = device.tokenizer.vocabulary_size
    conclude_and_show(config, dataset, output, device.models, vocabulary_size, samples, values, console, meter)
