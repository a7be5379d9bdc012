"""The profile of the bundled pair, measured on one machine and shipped: what a plan goes by where no profile is given."""

from __future__ import annotations

from importlib.resources import files

from uihlm_evaluation.calibration.plan_figures import PlanFigures
from uihlm_evaluation.calibration.profile import Profile, ProfileError


def bundled_profile() -> Profile:
    """Return the shipped profile; its compute times are those of the machine that it names."""
    text = (files("uihlm_evaluation.planning") / "data" / "bundled.json").read_text(encoding="utf-8")
    return Profile.from_json(text)


def figures_of(profile: Profile) -> PlanFigures:
    """Return a profile's figures for a plan.

    Raises:
        ProfileError: if they have not been measured.
    """
    if profile.plan is None:
        raise ProfileError(
            "this profile lacks what a plan needs (acceptance under `coupled`, times of drafter and LLM, trees, the batch "
            "curve): measure it with `uihlm-device plan --measure --profile DIR --output DIR`"
        )
    return profile.plan
