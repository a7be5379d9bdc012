"""`uihlm-device plan`: which way of asking pays on a link."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from uihlm_cli.errors import reported
from uihlm_cli.options.flags import OUTPUT_FOLDER, Values, format_option, one_of, option
from uihlm_cli.options.groups import config_option, energy_options, link_options, model_options, selection_group
from uihlm_cli.options.load import check_position_time
from uihlm_cli.options.settings import link_settings
from uihlm_cli.options.types import codec_name
from uihlm_evaluation.calibration.plan_figures import PlanFigures
from uihlm_evaluation.calibration.profile import Profile, ProfileError, load_profile
from uihlm_evaluation.planning.bundled import bundled_profile, figures_of
from uihlm_evaluation.planning.equations import Conditions, Model
from uihlm_evaluation.planning.plan import Objective, plan
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.runs.configuration import ClockMode
from uihlm_proto.codecs import codec
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.settings import LinkSettings

_MAP_FORMS = (".svg", ".png")


@click.command("plan")
@config_option
@option(
    "--profile",
    type=click.Path(exists=True, path_type=Path),
    help="Profile with a plan's figures, a file or its folder.  [default: that of the bundled pair]",
)
@link_options("none", ClockMode.SIMULATED)
@option("--snr-db", type=float, help="SNR of the uplink, dB, in place of --noise-dbm.  [default: the link's]")
@option(
    "--load", type=click.IntRange(1), default=1, help="Sessions that the base station serves at once, this one too."
)
@option(
    "--risk",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Cap on the risk of skipping: rejection probability of skipped tokens, a token; 0 leaves the lossless ways.",
)
@one_of("--objective", Objective.TOKENS, "Most tokens a second, fewest joules, or fewest LLM forwards.")
@option("--codec", type=codec_name, metavar="NAME", default="coupled", help="Uplink codec; trees need coupled.")
@option("--answer-tokens", type=click.IntRange(8), default=64, help="Length of an answer, tokens.")
@option("--outage", is_flag=True, help="There is no base station to ask.")
@energy_options
@option(
    "--map",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the best way over round trip × rate × load × the LLM's time into this file, .svg or .png.  "
    "[default: none is drawn]",
)
@option("--measure", is_flag=True, help="Measure the figures on this pair and machine first, into --output.")
@selection_group("12, or as many as --sample draws; of --measure")
@model_options
@option(
    "--output",
    type=OUTPUT_FOLDER,
    help="With --measure: folder of the profile that holds them.  [default: none; must be given]",
)
@format_option
def command(**values: Any) -> None:
    """Say which way of asking pays on a link, and what each would come to.

    From a profile (acceptance, times of drafter and LLM, trees, batch curve) and a link it predicts tokens a second, joules
    and LLM forwards a token of the LLM alone, of one draft an upload, blocks, drafts in flight and trees, and of policy u
    where --risk permits; the device alone counts in an outage. No model is run, unless to --measure: that takes some
    minutes, and the profile's seconds are of that machine.

    \b
      uihlm-device plan --link nr
      uihlm-device plan --rtt-s 0.05 --bandwidth-hz 1e6 --snr-db 3 --load 8 --objective forwards
      uihlm-device plan --link lpwan --objective joules --risk 0.1
      uihlm-device plan --forward-time-s 0.2 --position-time-s 0.01 --map map.svg
      uihlm-device plan --measure --profile runs/pair --output runs/pair
    """
    with reported():
        _check(values)
        path: Path | None = values["profile"]
        profile = _profile(path, values)
        figures = _figures(figures_of(profile), values)
        if path is None and not values["measure"]:
            click.echo(f"note: figures of the bundled pair, measured {figures.measured}", err=True)
        _plan(profile, figures, values)


# The clock of a plan is always virtual.
command.params = [parameter for parameter in command.params if parameter.name != "clock"]


def _check(values: Values) -> None:
    """Raise click.BadParameter or UsageError for flags that exclude each other."""
    if values["snr_db"] is not None and values["noise_dbm"] is not None:
        raise click.UsageError("--snr-db and --noise-dbm say the same: give one of them")
    if values["measure"] != (values["output"] is not None):
        raise click.UsageError("--measure writes a profile into --output DIR: give both, or neither")
    check_position_time(values)
    for flag in ("draft_time_s", "forward_time_s"):
        if values[flag] == 0.0:
            raise click.BadParameter(
                "what takes no time writes any number of tokens a second: give a time above 0",
                param_hint=f"--{flag.replace('_', '-')}",
            )
    other = values["model"] != "bundled" or values["llm"] is not None or values["server"] is not None
    if other and not values["measure"] and values["profile"] is None:
        raise click.UsageError(
            "--model, --llm and --server name what --measure measures: a plan goes by figures, so give the --profile that has "
            "them, or measure"
        )
    if values["map"] is not None and values["map"].suffix not in _MAP_FORMS:
        raise click.BadParameter(f"must end in .svg or .png, got {values['map'].name}", param_hint="--map")


def _profile(path: Path | None, values: Values) -> Profile:
    """Return the profile to plan by; click.BadParameter for one that is none, or lacks the figures."""
    try:
        profile = bundled_profile() if path is None else load_profile(path)
        if values["measure"]:
            return _measured(profile, path, values)
        figures_of(profile)
    except ProfileError as error:
        raise click.BadParameter(str(error), param_hint="--profile") from error
    return profile


def _measured(profile: Profile, path: Path | None, values: Values) -> Profile:
    from uihlm_cli.planning.measuring import measured

    folder = path if path is None or path.is_dir() else path.parent
    found = measured(profile, values, folder)
    output: Path = values["output"]
    output.mkdir(parents=True, exist_ok=True)
    found.save(output)
    click.echo(f"written to {output}; use it with --profile {output}", err=True)
    return found


def _figures(figures: PlanFigures, values: Values) -> PlanFigures:
    """Return the profile's figures with the given times put in."""
    if (draft_s := values["draft_time_s"]) is not None:
        # A step with u costs what it costs more; a further node stays the share of a step that it was.
        share = draft_s / figures.draft_s if figures.draft_s else 1.0
        further_s, u_draft_s = share * figures.draft_position_s, share * figures.u_draft_s
        figures = replace(figures, draft_s=draft_s, u_draft_s=u_draft_s, draft_position_s=further_s)
    if (forward_s := values["forward_time_s"]) is not None:
        figures = replace(figures, forward_s=forward_s, position_s=values["position_time_s"] or 0.0)
    return figures


def link_of(values: Values) -> LinkSettings:
    """Return the link that the flags say, its noise such that the SNR is the given one."""
    link = link_settings(values)
    if values["snr_db"] is None:
        return link
    if link.trace is not None:
        raise click.BadParameter(
            f"{link.trace.path} says what the link carries: leave --snr-db out", param_hint="--snr-db"
        )
    radio = link.radio or RadioLink()
    return replace(link, radio=replace(radio, noise_dbm=radio.noise_dbm + radio.snr_db - values["snr_db"]))


def _plan(profile: Profile, figures: PlanFigures, values: Values) -> None:
    from rich.console import Console

    from uihlm_evaluation.planning.table import render
    from uihlm_evaluation.results.table import TableFormat

    link = link_of(values)
    coupled = values["codec"] == "coupled"
    # Other codecs judge by the residual rule, whose acceptance calibration measured.
    acceptance = None if coupled else 1.0 - profile.mean_rejection.mean
    model = Model(figures, Sizes(codec(values["codec"], figures.vocabulary_size)), acceptance)
    joules = JouleProfile(0.0, values["device_w"], values["basestation_w"])
    conditions = Conditions(link, values["load"], values["answer_tokens"], joules=joules)
    objective = Objective(values["objective"])
    found = plan(model, conditions, objective, values["risk"], trees=coupled, outage=values["outage"])
    render(found, TableFormat(values["format"]), Console())
    if values["map"] is not None:
        from uihlm_evaluation.planning.map import draw_map

        draw_map(model, conditions, objective, values["risk"], values["map"], trees=coupled)
        click.echo(f"map: {values['map']}", err=True)
