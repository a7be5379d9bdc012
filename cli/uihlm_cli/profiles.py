"""Whether the profile a command was given fits what it runs."""

from __future__ import annotations

import click

from uihlm_cli.assembly import Models
from uihlm_cli.options import Values
from uihlm_evaluation.calibration.profile import Profile
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_models.sources import file_sha256


def check_profile(values: Values, config: RunConfig, models: Models) -> None:
    """Warn on stderr of what the profile of `--profile` was not measured with; nothing where there is none.

    Raises:
        ProfileError: if it was measured on other weights.
    """
    profile: Profile | None = values["profile"]
    if profile is None:
        return
    llm_sha256 = None if models.llm is None else file_sha256(models.llm)
    warnings = profile.check_models(file_sha256(models.slm), llm_sha256)
    for warning in [*warnings, *profile.check_settings(config)]:
        click.echo(f"warning: {warning}", err=True)
