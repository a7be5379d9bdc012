"""What a flag may hold: values checked and read where they are given."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from uihlm_device.decode_settings import AUTO
from uihlm_device.rules.predictor import LearnedFile, PredictorError
from uihlm_evaluation.calibration.learned import LEARNED
from uihlm_evaluation.calibration.profile import Profile, ProfileError, load_profile
from uihlm_proto.codecs import canonical_name
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS


def draft_length(value: str) -> int:
    """Return the drafts of an upload."""
    if value == "auto":
        return AUTO
    try:
        length = int(value)
    except ValueError:
        length = 0
    if not 1 <= length <= MAX_DRAFTS:
        raise click.BadParameter(f"must be 1 … {MAX_DRAFTS}, or auto, got {value!r}")
    return length


def codec_name(value: str) -> str:
    """Return a codec's name with every parameter spelled out, so that a run's settings say what the defaults were."""
    try:
        return canonical_name(value)
    except InvalidRequestError as error:
        raise click.BadParameter(str(error)) from error


def load_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Make the TOML file's values the defaults; flags and environment still win."""
    if value is None:
        return None
    try:
        settings = tomllib.loads(value.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value} is not valid TOML: {error}", context, parameter) from error
    flags = {p.name: p for p in context.command.params if isinstance(p, click.Option) and p is not parameter}
    renamed = {name.replace("-", "_"): entry for name, entry in settings.items()}
    unknown = sorted(renamed.keys() - flags.keys())
    if unknown:
        raise click.BadParameter(
            f"{value} sets {', '.join(unknown)}, which is no flag of this command (keys are flags without the dashes)",
            context,
            parameter,
        )
    entries = {}
    for name, entry in renamed.items():
        try:
            entries[name] = _as_on_the_command_line(flags[name], entry)
        except ValueError as error:
            raise click.BadParameter(f"{value} sets {name} to {entry!r}: {error}", context, parameter) from error
    context.default_map = {**(context.default_map or {}), **entries}
    return value


def _as_on_the_command_line(flag: click.Option, entry: Any) -> Any:
    """Return a TOML value as click takes it from a command line; ValueError for one that no command line could say."""
    if isinstance(entry, bool):
        if not flag.is_flag:
            raise ValueError("this flag takes a value, not true or false")
        return entry
    if isinstance(entry, list):
        if not flag.multiple:
            raise ValueError("this flag takes one value")
        return [_scalar(one) for one in entry]
    # A flag that repeats may be given once as a plain string, as in its environment variable.
    if flag.multiple and isinstance(entry, str):
        return flag.type.split_envvar_value(entry)
    return [_scalar(entry)] if flag.multiple else _scalar(entry)


def _scalar(entry: Any) -> str:
    if not isinstance(entry, (str, int, float)) or isinstance(entry, bool):
        raise ValueError("it is text or a number")
    return str(entry)


def profile_defaults(context: click.Context, parameter: click.Parameter, value: Path | None) -> Profile | None:
    """Make the profile's knobs the defaults; flags, environment and the TOML file still win."""
    if value is None:
        return None
    try:
        loaded = load_profile(value)
    except ProfileError as error:
        raise click.BadParameter(f"{error}", context, parameter) from error
    # A flag that repeats (of `sweep`) spans a grid: the profile's one value must not stand for all of it.
    flags = {
        option.name for option in context.command.params if isinstance(option, click.Option) and not option.multiple
    }
    knobs = {name: knob for name, knob in loaded.knobs.items() if name in flags}
    if loaded.learned is not None and "learned" in flags:
        knobs["learned"] = _kept_weights(value, loaded.learned, context, parameter)
    context.default_map = {**knobs, **(context.default_map or {})}
    return loaded


def _kept_weights(profile: Path, sha256: str, context: click.Context, parameter: click.Parameter) -> Path:
    """Return the path of the weights that a profile points to."""
    path = (profile if profile.is_dir() else profile.parent) / LEARNED
    try:
        found = LearnedFile.of(path).sha256
    except PredictorError as error:
        raise click.BadParameter(f"the profile points to weights: {error}", context, parameter) from error
    if found != sha256:
        raise click.BadParameter(
            f"{path} holds other weights than the profile points to: run `uihlm-device calibrate --learn` again",
            context,
            parameter,
        )
    return path


def load_learned(context: click.Context, parameter: click.Parameter, value: Path | None) -> LearnedFile | None:
    try:
        return None if value is None else LearnedFile.of(value)
    except PredictorError as error:
        raise click.BadParameter(str(error), context, parameter) from error
