"""A profile: what calibration found out about a pair, as the settings that `chat`, `eval` and `sweep` start from.

`profile.json` holds each measured value as {mean, low, high}, the knobs chosen from them, and what they were measured
on: weights by hash, sampling, estimator. θ_u belongs to all of these; a profile of other weights is refused, one of
another sampling contract is used with a warning.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from uihlm_evaluation.calibration.plan_figures import PlanFigures
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.whole_files import write_whole
from uihlm_proto.errors import InvalidRequestError

PROFILE = "profile.json"
FORMAT = 1


class ProfileError(InvalidRequestError):
    """A profile that cannot be read, or that was measured on something else."""


@dataclass(frozen=True, slots=True)
class ProfileModel:
    """The weights at one end.

    Attributes:
        label: what the user named, in words.
        sha256: of the weights; None where they were on another machine.
    """

    label: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Profile:
    """A calibrated pair. Field by field the object in `profile.json`; None is null there.

    Attributes:
        a, b: of the linear law β ≈ a·u + b.
        correlation, r2_bins: how well it holds.
        mean_rejection, share_below: the two Δ of the risk-prone thresholds.
        theta_risk_averse, theta_risk_prone, theta_risk_prone_below: thresholds; None where the law gives none.
        threshold: which of them was chosen.
        theta_u, layer, k, gamma: the knobs that a run takes over; theta_u is None where the law gives none.
        upload_rate, risk: of `u` at theta_u.
        temperature, top_k, top_p, estimator: what they hold for.
        slm, llm: the pair.
        dataset: the prompts, in words.
        prompts, tokens: how many were measured.
        warnings: in which way the law does not hold.
        learned: SHA-256 of the weights of policy `learned` beside the profile; None unless they were trained and kept.
        plan: compute times, batch curve and trees, for `uihlm-device plan`; None until `plan --measure` has measured them.
        format: version of the layout.
    """

    a: Interval
    b: Interval
    correlation: Interval
    r2_bins: Interval
    mean_rejection: Interval
    share_below: Interval
    theta_risk_averse: Interval | None
    theta_risk_prone: Interval | None
    theta_risk_prone_below: Interval | None
    threshold: str
    theta_u: float | None
    layer: int
    k: int
    gamma: float
    upload_rate: Interval | None
    risk: Interval | None
    temperature: float
    top_k: int
    top_p: float
    estimator: str
    slm: ProfileModel
    llm: ProfileModel
    dataset: str
    prompts: int
    tokens: int
    warnings: tuple[str, ...] = ()
    learned: str | None = None
    plan: PlanFigures | None = None
    format: int = FORMAT

    @property
    def knobs(self) -> dict[str, Any]:
        """The flags that the profile sets where they are not given otherwise."""
        knobs = {"theta_u": self.theta_u, "layer": self.layer, "k": self.k, "gamma": self.gamma}
        return {name: value for name, value in knobs.items() if value is not None}

    @property
    def digest(self) -> str:
        """SHA-256 of the profile's content, by which a run's settings name it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def contents(self) -> dict[str, Any]:
        """Return what `profile.json` holds."""
        values = dataclasses.asdict(self)
        if self.plan is None:
            # A profile without them keeps the digest it had before there were any.
            del values["plan"]
        return values

    def to_json(self) -> str:
        """Return the text of `profile.json`."""
        return json.dumps(self.contents(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the profile that a file's text holds.

        Raises:
            ProfileError: if it is no JSON object, or a field is missing, unknown or of the wrong type.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ProfileError(f"not valid JSON ({error.msg} at line {error.lineno})") from error
        if not isinstance(values, dict):
            raise ProfileError(f"expected a JSON object, got {type(values).__name__}")
        if values.get("format") != FORMAT:
            raise ProfileError(f"expected a profile of format {FORMAT}, got {values.get('format')!r}")
        hints = typing.get_type_hints(cls)
        # Profiles from before there was a predictor, or a plan, have none.
        missing = sorted(hints.keys() - values.keys() - {"learned", "plan"})
        unknown = sorted(values.keys() - hints.keys())
        if missing or unknown:
            raise ProfileError(f"it lacks {missing} and has the unknown {unknown}; was it written by another version?")
        return cls(**{name: _typed(name, value, hints[name]) for name, value in values.items()})

    def save(self, folder: Path) -> None:
        """Write `profile.json` into a folder."""
        write_whole(folder / PROFILE, self.to_json())

    def check_models(self, slm_sha256: str | None, llm_sha256: str | None) -> list[str]:
        """Return warnings about a pair that cannot be told from the profile's.

        Args:
            slm_sha256, llm_sha256: of the weights of the run; None where they are on another machine.

        Raises:
            ProfileError: if one of them is another than the profile's.
        """
        warnings = []
        for role, measured, used in (("drafter", self.slm, slm_sha256), ("LLM", self.llm, llm_sha256)):
            if measured.sha256 is None or used is None:
                warnings.append(
                    f"the profile was measured with the {role} {measured.label}; whether this is it cannot be told"
                )
            elif measured.sha256 != used:
                raise ProfileError(
                    f"the profile was measured with another {role} ({measured.label}, sha256 {measured.sha256[:12]}…; this one "
                    f"is {used[:12]}…): its threshold means nothing here; run `uihlm-device calibrate` on this pair"
                )
        return warnings

    def check_settings(self, config: RunConfig) -> list[str]:
        """Return a warning for each setting under which u or rejection are not what the profile measured."""
        sampling = config.decode.sampling
        pairs = (
            ("temperature", self.temperature, sampling.temperature),
            ("top-k", self.top_k, sampling.top_k),
            ("top-p", self.top_p, sampling.top_p),
            ("estimator", self.estimator, config.decode.estimator.value),
        )
        return [
            f"the profile was measured with {name} {measured}, this run has {used}: its θ_u need not hold"
            for name, measured, used in pairs
            if measured != used
        ]


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Return a JSON value as the field's type."""
    allowed = typing.get_args(hint) if hint not in (tuple[str, ...],) and typing.get_args(hint) else (hint,)
    if value is None and type(None) in allowed:
        return None
    if hint == tuple[str, ...] and isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    if PlanFigures in allowed:
        try:
            return PlanFigures.from_dict(value)
        except InvalidRequestError as error:
            raise ProfileError(str(error)) from error
    for kind in (Interval, ProfileModel):
        if kind in allowed and isinstance(value, dict):
            try:
                return kind(**{key: _field(name, kind, key, entry) for key, entry in value.items()})
            except TypeError as error:
                raise ProfileError(f"{name} must be an object like {kind.__name__}, got {value!r}") from error
    if float in allowed and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) not in allowed:
        raise ProfileError(f"{name} cannot be {value!r}")
    return value


def _field(name: str, kind: type, key: str, value: Any) -> Any:
    hints = typing.get_type_hints(kind)
    if key not in hints:
        raise ProfileError(f"{name} has the unknown {key!r}")
    return _typed(f"{name}.{key}", value, hints[key])


def load_profile(path: Path) -> Profile:
    """Return the profile in a file, or in a folder that `calibrate` wrote.

    Raises:
        ProfileError: if there is none, or it is not one.
    """
    file = path / PROFILE if path.is_dir() else path
    if not file.is_file():
        raise ProfileError(f"there is no profile at {file}: make one with `uihlm-device calibrate --output DIR`")
    try:
        return Profile.from_json(file.read_text(encoding="utf-8"))
    except (ProfileError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file} is not a profile: {error}") from error
