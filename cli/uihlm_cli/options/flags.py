"""How a flag is made, and how flags are put together: what the commands of both ends share.

Every flag shows its default and its environment variable, `UIHLM_<COMMAND>_<FLAG>` (click's `auto_envvar_prefix`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Values = dict[str, Any]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
# May be there, or is made.
OUTPUT_FOLDER = click.Path(file_okay=False, path_type=Path)


def group(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that adds options in the order given."""

    def decorate(function: F) -> F:
        for add in reversed(options):
            function = add(function)
        return function

    return decorate


def finite(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    # Python reads `nan` and `inf` as floats, no range refuses them, and the results file cannot hold them.
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise click.BadParameter(f"must be a finite number, got {number}", context, parameter)
    return value


def option(*names: str, help: str, **settings: Any) -> Callable[[F], F]:
    """Return a flag; it takes finite numbers alone, unless a callback of its own says otherwise."""
    given: dict[str, Any] = {"show_default": True, "callback": finite} | settings
    return click.option(*names, help=help, show_envvar=True, **given)


def choice(names: type[enum.Enum]) -> click.Choice[Any]:
    return click.Choice([member.value for member in names])


def one_of(name: str, default: enum.Enum, help: str) -> Callable[[F], F]:
    """Return a flag that takes the value of any member of its default's enum."""
    return option(name, type=choice(type(default)), default=default.value, help=help)


format_option = option(
    "--format", type=click.Choice(["table", "json", "csv", "md"]), default="table", help="Form of stdout."
)
