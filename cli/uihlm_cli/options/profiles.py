"""Whether the profile and the learned weights a command was given fit what it runs."""

from __future__ import annotations

import click

from uihlm_cli.assembly import Models
from uihlm_cli.options.flags import Values
from uihlm_device.rules.predictor import PredictorError
from uihlm_evaluation.calibration.profile import Profile
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_models.sources import file_sha256


def check_profile(values: Values, config: RunConfig, models: Models) -> None:
    """Warn on stderr of what `--profile` and `--learned` were not measured with; nothing where there are none.

    Raises:
        ProfileError: if it was measured on other weights.
        PredictorError: if the learned weights are another drafter's, and policy `learned` is to run.
    """
    _check_learned(config, models)
    profile: Profile | None = values["profile"]
    if profile is None:
        return
    llm_sha256 = None if models.llm is None else file_sha256(models.llm)
    warnings = profile.check_models(file_sha256(models.slm), llm_sha256)
    for warning in [*warnings, *profile.check_settings(config)]:
        click.echo(f"warning: {warning}", err=True)


def _check_learned(config: RunConfig, models: Models) -> None:
    learned = config.rules.learned
    if learned is None or all(row.policy != "learned" for row in config.rows):
        return
    origin = learned.load().origin
    if origin.slm_sha256 is not None and origin.slm_sha256 != file_sha256(models.slm):
        raise PredictorError(
            f"{learned.path} was trained on another drafter (sha256 {origin.slm_sha256[:12]}…): run `uihlm-device calibrate "
            "--learn` on this pair"
        )
    if models.llm is not None and origin.llm_sha256 not in (None, file_sha256(models.llm)):
        click.echo(f"warning: {learned.path} was trained with another LLM: its guesses need not hold", err=True)
    settings = (config.decode.sampling.temperature, config.decode.estimator.value)
    if settings != (origin.temperature, origin.estimator):
        click.echo(
            f"warning: {learned.path} was trained at temperature {origin.temperature} with estimator {origin.estimator}, "
            f"this run has {settings[0]} and {settings[1]}: its threshold need not hold",
            err=True,
        )
