"""`uihlm-device calibrate`: measure what a pair's uncertainty is worth, and choose its thresholds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import SomeSamplesFailed, reported
from uihlm_cli.options.access import access_of
from uihlm_cli.options.flags import OUTPUT_FOLDER, format_option, one_of, option
from uihlm_cli.options.groups import config_option, decode_options, model_options, selection_group
from uihlm_cli.runs.frame import check_resume, chosen_prompts, output_folder
from uihlm_cli.traces.tracing import LIMIT, check_codec, hidden_option, shown_progress, trace_config, whole_prompts_kept
from uihlm_device.rules.predictor import LearnedFile
from uihlm_evaluation.calibration.findings import Choice, Findings, document, profile_of, write
from uihlm_evaluation.calibration.learned import LEARNED, Comparison, compare, train
from uihlm_evaluation.calibration.profile import Profile, ProfileModel
from uihlm_evaluation.calibration.thresholds import Threshold
from uihlm_evaluation.calibration.trace import Trace, TraceHeader
from uihlm_evaluation.calibration.tracing import Tracer, TraceSettings, make_trace
from uihlm_evaluation.prompts.datasets import Dataset
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.errors import InvalidRequestError

_CHOICE = Choice()


@click.command("calibrate")
@config_option
@selection_group(f"{LIMIT}, or as many as --sample draws")
@decode_options
@one_of(
    "--threshold",
    _CHOICE.threshold,
    "Which threshold becomes the profile's theta-u: (Δ − b)/a for Δ = 0, mean rejection, or P(y_d < x_d).",
)
@option("--k", type=click.IntRange(1), default=_CHOICE.k, help="k of the profile.")
@option("--gamma", type=click.FloatRange(0), default=_CHOICE.gamma, help="γ of the profile.")
@model_options
@hidden_option
@option(
    "--learn",
    is_flag=True,
    help="Train a predictor of rejection on the hidden states, and keep it if it beats u on held-out prompts.",
)
@option(
    "--upload-rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="With --learn: the rate it is compared and its threshold set at.  [default: that of u at the profile's theta-u]",
)
@option("--plots/--no-plots", default=True, help="Draw the figures.")
@option("--output", type=OUTPUT_FOLDER, help="Results folder.  [default: runs/calibrate-<time>]")
@option("--resume", is_flag=True, help="Go on with the trace in --output, or read it anew.")
@format_option
def command(**values: Any) -> None:
    """Measure a pair: how rejection grows with uncertainty, what thresholds follow, which attention layer to read.

    Prompts are answered by the LLM's distribution (policy hlm) through a real base station, with u, attention of every
    layer and the verdict kept of each token. From them come the line β ≈ a·u + b (β: rejection probability), three
    thresholds with what each would upload and risk, and the importance rule's upload rate by layer, k and γ. With no flags:
    60 Alpaca prompts on the bundled pair, some 7 minutes on two cores.

    \b
      uihlm-device calibrate --output runs/pair
      uihlm-device eval --profile runs/pair
      uihlm-device calibrate --model my-draft.gguf --llm my-target.gguf --limit 200 --output runs/mine
      uihlm-device calibrate --output runs/pair --resume --threshold risk-averse
      uihlm-device calibrate --output runs/pair --resume --learn

    The folder holds profile.json (for --profile), calibration.json (everything), trace.npz (one row a token), and the figures
    reliability, importance and collapse as SVG and PNG; with --learn also learned.npz (weights) and learned.json (how they
    did against u, 1 − x_d, entropy and chance on held-out prompts). Says so where the law does not hold. Exit codes: 0 done,
    1 error, 2 usage, 3 some prompts failed, 4 the base station cannot be reached, 130 interrupted; an interrupted run goes
    on with --resume.
    """
    check_resume(values, "trace")
    if values["learn"] and not values["hidden"]:
        raise click.UsageError("--learn reads the hidden states, which --no-hidden leaves out: give one of them")
    check_codec(values)
    with reported():
        config = trace_config(values)
        dataset = chosen_prompts(config.selection)
        output = output_folder(values, "calibrate")
        with whole_prompts_kept(output):
            _calibrate(config, dataset, output, values)


def _calibrate(config: RunConfig, dataset: Dataset, output: Path, values: dict[str, Any]) -> None:
    from rich.console import Console

    from uihlm_cli.assembly import opened_device
    from uihlm_evaluation.calibration.plots import draw
    from uihlm_evaluation.calibration.summary import render
    from uihlm_evaluation.results.table import TableFormat
    from uihlm_models.sources import file_sha256

    with opened_device(config, values["server"], values["timeout_s"], access=access_of(values)) as device:
        source, target = device.models.slm, device.models.llm
        slm = ProfileModel(source.label, file_sha256(source))
        llm = ProfileModel(target.label, file_sha256(target)) if target else ProfileModel("of the named server", None)
        header = TraceHeader.of(config.decode.sampling, config.decode.estimator, slm.sha256, llm.sha256)
        tracer = Tracer(device.drafter_for, device.assemble, device.chat_format.first_turn)
        settings = TraceSettings(config, header, values["hidden"])
        with shown_progress(len(dataset.examples)) as show:
            traced = make_trace(tracer, settings, dataset.examples, output, values["resume"], show)
    click.echo("reading the trace …", err=True)
    findings = Findings.of(traced.trace, config.selection.seed)
    choice = Choice(Threshold(values["threshold"]), values["layer"], values["k"], values["gamma"])
    profile = profile_of(findings, choice, traced.trace, slm, llm, dataset.label)
    learned = _learned(profile, traced.trace, values, config.selection.seed, output) if values["learn"] else None
    if learned is not None and learned.kept:
        profile = dataclasses.replace(profile, learned=LearnedFile.of(output / LEARNED).sha256)
    content = document(findings, profile, traced.trace, traced.failed)
    if learned is not None:
        content["learned"] = learned.to_json()
    write(output, content)
    profile.save(output)
    if values["plots"]:
        draw(findings, profile, traced.trace, output)
    render(findings, profile, content, TableFormat(values["format"]), Console(), learned)
    for warning in profile.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"written to {output}; use it with --profile {output}", err=True)
    if traced.failed:
        prompt, error = traced.failed[0]
        raise SomeSamplesFailed(
            f"{len(traced.failed)} of {len(dataset.examples)} prompts failed, the first: prompt {prompt}: {error}"
        )


def _learned(profile: Profile, trace: Trace, values: dict[str, Any], seed: int, output: Path) -> Comparison:
    """Train the predictor, judge it on held-out prompts, and write both."""
    rate = values["upload_rate"] or (profile.upload_rate and profile.upload_rate.mean)
    if not rate or rate >= 1.0:
        raise InvalidRequestError(
            f"u uploads {'nothing that is known' if rate is None else f'{rate:.0%}'} at the profile's θ_u, where no two rules "
            "differ: say with --upload-rate at which rate the predictor is to be compared"
        )
    click.echo("training the predictor …", err=True)
    comparison = compare(trace, rate, seed)
    comparison.save(output)
    (output / LEARNED).write_bytes(train(trace, rate).to_bytes())
    return comparison
