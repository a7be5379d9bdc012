"""`uihlm-device plan --measure`: the pair answers a few prompts in every way, and a profile keeps what that took."""

from __future__ import annotations

import dataclasses
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import click

from uihlm_cli.options.access import access_of
from uihlm_cli.options.flags import Values
from uihlm_cli.options.settings import llm_name
from uihlm_cli.options.weights import llm_dtype
from uihlm_cli.runs.frame import chosen_prompts
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_evaluation.calibration.plan_figures import SkipFigures
from uihlm_evaluation.calibration.profile import Profile
from uihlm_evaluation.calibration.trace import load_trace
from uihlm_evaluation.planning.measuring import Rig, measure, skipping_curve
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, Selection
from uihlm_proto.sampling import Sampling
from uihlm_wireless.settings import profile as link_profile

# Loads of the batch curve: a base station in this process keeps four caches (uihlm_basestation/engines).
_LOCAL, _SERVED = (1, 2, 4), (1, 2, 4, 8, 16)

# Prompts, where neither --limit nor --sample says otherwise.
LIMIT = 12


def measured(profile: Profile, values: Values, folder: Path | None) -> Profile:
    """Return the profile with the figures of a plan measured anew.

    Args:
        profile: of the pair.
        values: the command's flags.
        folder: where the profile comes from: the trace beside it gives the whole curve of policy `u`.
    """
    from uihlm_cli.assembly import opened_device
    from uihlm_device.drafters.drafter import TreeDrafter
    from uihlm_models.sources import file_sha256

    limit = values["limit"] or (None if values["sample"] else LIMIT)
    selection = Selection(values["dataset"], limit, values["offset"], values["sample"], values["seed"])
    config = RunConfig(
        selection=selection,
        policies=("hlm",),
        decode=DecodeSettings(
            Sampling(profile.temperature, profile.top_k, profile.top_p), max_tokens=values["answer_tokens"]
        ),
        codec="coupled",
        link=link_profile("none"),
        clock=ClockMode.SIMULATED,
        model=values["model"],
        llm=llm_name(values),
        llm_dtype=llm_dtype(values, llm_name(values)),
        threads=values["threads"],
        backend=values["backend"],
    )
    prompts = chosen_prompts(selection).examples
    with opened_device(config, values["server"], values["timeout_s"], access=access_of(values)) as device:
        llm = device.models.llm
        warnings = profile.check_models(file_sha256(device.models.slm), None if llm is None else file_sha256(llm))
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        rig = Rig(
            device.decoder,
            [device.chat_format.first_turn(example.user_turn) for example in prompts],
            config.decode,
            config.rules.theta_u if profile.theta_u is None else profile.theta_u,
            device.tokenizer.vocabulary_size,
            selection.seed,
            isinstance(device.drafter_for(policy("hlm", PolicySettings())), TreeDrafter),
            _LOCAL if values["server"] is None else _SERVED,
            lambda what: click.echo(f"measuring {what} …", err=True),
        )
        figures = measure(rig, _skipping(profile, folder), _where(values["server"]))
    return dataclasses.replace(profile, plan=figures)


def _skipping(profile: Profile, folder: Path | None) -> tuple[SkipFigures, ...]:
    """Return the curve of policy `u`: from the trace, else what the profile held before, else its one threshold."""
    if folder is not None and (folder / "trace.npz").is_file():
        trace = load_trace(folder / "trace.npz")
        return skipping_curve(trace.exact_u, trace.reject_prob)
    if profile.plan is not None:
        return profile.plan.skipping
    if profile.theta_u is None or profile.upload_rate is None or profile.risk is None:
        return ()
    return (SkipFigures(profile.theta_u, profile.upload_rate.mean, profile.risk.mean),)


def _where(server: str | None) -> str:
    """Say when and on what."""
    there = "" if server is None else f", base station {server}"
    now = datetime.now(tz=UTC).date().isoformat()
    return f"{now}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores{there}"
