"""`uihlm-bs`: the base station's commands."""

from __future__ import annotations

from importlib.metadata import version

import click

from uihlm_cli.lazy import LazyGroup

_COMMANDS = {
    "serve": ("uihlm_cli.station.serve", "Serve a large model to devices."),
    "top": ("uihlm_cli.station.top", "Watch a base station: sessions, rounds, batches, waits, acceptance and bits."),
    "health": (
        "uihlm_cli.station.health",
        "Say whether a base station serves: its weights are in, and it takes new sessions.",
    ),
}


@click.group(
    cls=LazyGroup,
    commands_in=_COMMANDS,
    context_settings={"auto_envvar_prefix": "UIHLM", "help_option_names": ["-h", "--help"]},
)
@click.version_option(version("uihlm"), prog_name="uihlm")
def main() -> None:
    """A language model split over a radio link: the base station's end."""
