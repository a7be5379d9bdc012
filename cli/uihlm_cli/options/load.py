"""`--load`: a base station that serves others too, on the virtual clock."""

from __future__ import annotations

from dataclasses import dataclass

import click

from uihlm_cli.options.flags import Values, option
from uihlm_evaluation.calibration.profile import Profile
from uihlm_evaluation.runs.configuration import ClockMode

load_option = option(
    "--load",
    type=click.IntRange(1),
    default=1,
    help="Sessions that the base station serves at once, this one too: forwards last as the profile's batch curve says.",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an LLM forward and a further position are charged, s, and the watts that are this session's; None is as measured."""

    forward_s: float | None
    position_s: float
    basestation_w: float


def check_position_time(values: Values) -> None:
    """Refuse the time of a forward's further positions without that of the first."""
    if values["position_time_s"] and values["forward_time_s"] is None:
        raise click.BadParameter(
            "is what each further position of a forward takes: give the first one's with --forward-time-s",
            param_hint="--position-time-s",
        )


def loaded(values: Values) -> Loaded:
    """Return the charges under `--load`: times as given, else as the profile measured them, × the batch curve; of the joules of
    such a forward a session's share is one of those it serves. As in a plan (uihlm_evaluation/planning/equations.py).

    Raises:
        click.BadParameter: under a clock that waits for real forwards, without a batch curve, or for half of a forward's time.
    """
    sessions: int = values.get("load") or 1
    check_position_time(values)
    forward_s, position_s, watts = values["forward_time_s"], values["position_time_s"] or 0.0, values["basestation_w"]
    if sessions == 1:
        return Loaded(forward_s, position_s, watts)
    if ClockMode(values["clock"]) is not ClockMode.SIMULATED:
        raise click.BadParameter(
            "load is modelled, and an enforced clock takes what forwards really take: use --clock simulated, or serve "
            "other sessions as well",
            param_hint="--load",
        )
    from uihlm_evaluation.planning.bundled import bundled_profile, figures_of

    profile: Profile | None = values["profile"]
    if profile is None and (values["model"] != "bundled" or values["llm"] not in (None, "bundled")):
        raise click.BadParameter(
            "the batch curve of these models is not known: give --profile, measured by `uihlm-device plan --measure`",
            param_hint="--load",
        )
    figures = figures_of(bundled_profile() if profile is None else profile)
    slowdown = figures.slowdown(sessions)
    if forward_s is None:
        forward_s, position_s = figures.forward_s, figures.position_s
    return Loaded(slowdown * forward_s, slowdown * position_s, watts / sessions)
