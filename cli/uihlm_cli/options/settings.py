"""The settings that a command's flags say: one run's configuration, with what excludes what."""

from __future__ import annotations

from dataclasses import replace

import click

from uihlm_cli.options.flags import Values
from uihlm_cli.options.link_traces import traced
from uihlm_cli.options.load import loaded
from uihlm_cli.options.outages import outage_of
from uihlm_cli.options.weights import llm_dtype
from uihlm_device.decode_settings import AUTO, DecodeSettings
from uihlm_device.drafting import Decide
from uihlm_device.rules.importance import Readout
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.rules.risk import Recalibrate
from uihlm_device.rules.uncertainty import Estimator
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, Selection
from uihlm_proto.sampling import Sampling
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import AirtimeBasis, LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

_DEFAULT = RunConfig()
_RADIO = RadioLink()


def link_settings(values: Values, start: LinkSettings | None = None) -> LinkSettings:
    """Return the named link, or the one to start from, with the given flags put in."""
    link = traced(profile(values["link"]) if start is None else start, values)
    radio_flags = ("bandwidth_hz", "transmit_power_dbm", "noise_dbm", "distance_m", "path_loss_exponent")
    radio = {name: values[name] for name in radio_flags if values[name] is not None}
    if radio:
        # A link without a radio gets one as soon as a flag speaks of it.
        link = replace(link, radio=replace(link.radio or _RADIO, **radio))
    plain = ("fading_seed", "coherence_s", "rtt_s", "grant_delay_s", "devices", "b_prob")
    given: Values = {name: values[name] for name in plain if values[name] is not None}
    if values["fading"] is not None:
        given["fading"] = FadingMode(values["fading"])
    if values["airtime"] is not None:
        given["airtime"] = AirtimeBasis(values["airtime"])
    return replace(link, **given)


def run_config(values: Values, policies: tuple[str, ...], selection: Selection = Selection()) -> RunConfig:
    """Return the settings that the flags of all groups say; click.UsageError where two of them exclude each other."""
    _check_tree(values, policies)
    _check_blocks(values)
    _check_audits(values)
    link, load = link_settings(values), loaded(values)
    transmit_w = link.radio.transmit_power_w if link.radio is not None else 0.0
    return RunConfig(
        selection=selection,
        policies=policies,
        decode=DecodeSettings(
            sampling=Sampling(values["temperature"], values["top_k"], values["top_p"]),
            max_tokens=values["max_tokens"],
            estimator=Estimator(values["estimator"]),
            gamma=values["gamma"],
            readout=Readout(values["readout"]),
            draft_length=values["draft_length"],
            draft_p_min=values["draft_p_min"],
            in_flight=values["in_flight"],
            run_on=_runs_on(values, policies),
            stream_interval=values["stream_interval"],
            audit=values["audit"],
            # Not a flag of commands whose rows share their answers between workers.
            risk=values.get("risk"),
            recalibrate=Recalibrate(values.get("recalibrate", _DEFAULT.decode.recalibrate)),
            decide=Decide(values["decide"]),
            tree=values["tree"],
            outage=outage_of(values),
        ),
        rules=PolicySettings(values["theta_u"], values["k"], values["theta_c"], values["rate"], values["learned"]),
        codec=values["codec"],
        link=link,
        clock=ClockMode(values["clock"]),
        timing=TimingProfile(values["draft_time_s"], load.forward_s, load.position_s),
        joules=JouleProfile(transmit_w, values["device_w"], load.basestation_w),
        model=values["model"],
        llm=llm_name(values),
        llm_dtype=llm_dtype(values, llm_name(values)),
        layer=values["layer"],
        threads=values["threads"],
        backend=values["backend"],
        profile=None if values["profile"] is None else values["profile"].digest,
    )


def _check_tree(values: Values, policies: tuple[str, ...]) -> None:
    """Refuse a tree that could not be sent."""
    problem = None
    if values["tree"] and ("hlm" not in policies or values["codec"] != "coupled"):
        problem = (
            "--tree needs --policy hlm and --codec coupled: only the LLM's own draws can walk a tree of drafts, got "
            f"--policy {', '.join(policies)} and --codec {values['codec']}"
        )
    elif values["tree"] and values["draft_length"] != 1:
        problem = "--tree takes the place of --draft-length: leave --draft-length out"
    if problem is not None:
        raise click.BadParameter(problem, param_hint="--tree")


def _check_blocks(values: Values) -> None:
    """Refuse to end early what is no block of a length that was asked for."""
    if values["draft_p_min"] and values["draft_length"] in (1, AUTO):
        raise click.BadParameter(
            "ends blocks of drafts early: give their greatest length with --draft-length 2 or more",
            param_hint="--draft-p-min",
        )


def _runs_on(values: Values, policies: tuple[str, ...]) -> bool:
    """Return whether the LLM runs on: wherever it can, unless told not to. Refuse it where it cannot."""
    single = "hlm" in policies and values["draft_length"] == 1 and not values["tree"]
    if values["run_on"] is None:
        return single
    if values["run_on"] and not single:
        raise click.BadParameter(
            "needs --policy hlm with one draft an upload: leave out --draft-length and --tree; got --policy "
            f"{', '.join(policies)}",
            param_hint="--run-on",
        )
    return bool(values["run_on"])


def _check_audits(values: Values) -> None:
    """Refuse a controller without a budget, and a mean over drafts from samples."""
    if values.get("recalibrate") == Recalibrate.ONLINE.value and values["risk"] is None:
        raise click.BadParameter("online holds a budget: give it with --risk", param_hint="--recalibrate")
    if values["decide"] == Decide.DISTRIBUTION.value and values["estimator"] != Estimator.EXPECTED.value:
        raise click.BadParameter(
            "distribution takes the mean of u over all drafts: leave --estimator at expected", param_hint="--decide"
        )


def llm_name(values: Values) -> str | None:
    """Return the LLM of the local base station, None where a server is named; click.UsageError where both are."""
    if values["server"] is not None and values["llm"] is not None:
        raise click.UsageError(
            "--llm names the LLM of a local base station, and --server names another one: give one of them"
        )
    return None if values["server"] is not None else values["llm"] or default_llm(values["model"])


def default_llm(model: str) -> str:
    """Return the LLM that goes with a drafter: a preset names a pair; anything else gets the bundled one."""
    from uihlm_models.presets import PRESETS

    return model if model in PRESETS else "bundled"
