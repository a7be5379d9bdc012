"""`uihlm-device`: the device's commands."""

from __future__ import annotations

from importlib.metadata import version

import click

from uihlm_cli.lazy import LazyGroup

_COMMANDS = {
    "chat": ("uihlm_cli.chat.command", "Talk to the split model; every token shows who wrote it."),
    "serve": ("uihlm_cli.serving.command", "Serve the split model behind an OpenAI-compatible endpoint."),
    "calibrate": (
        "uihlm_cli.traces.calibrate",
        "Measure a pair: the law of its uncertainty, thresholds, and a profile.",
    ),
    "eval": ("uihlm_cli.runs.evaluate", "Run policies over a data set and write a results folder."),
    "sweep": ("uihlm_cli.runs.sweep", "Run a grid of policies and knobs: the paper's Table I, or your own."),
    "plan": ("uihlm_cli.planning.command", "Say which way of asking pays on a link: the LLM alone, drafts, or trees."),
    "trace": ("uihlm_cli.traces.trace", "Write what both ends know of every token, to score upload rules on."),
    "score": ("uihlm_cli.traces.score", "Score upload rules, ours or yours, on a trace, without a model."),
    "rebill": ("uihlm_cli.runs.rebill", "Price a saved run on another link, without running a model."),
    "joules": ("uihlm_cli.runs.joules", "Lay a wall meter's file over a run made with --meter csv."),
    "link-trace": (
        "uihlm_cli.links.link_trace",
        "Make a trace for --link-trace: 5G NR over a fading channel, with Sionna.",
    ),
    "report": (
        "uihlm_cli.runs.report",
        "Turn a saved run into figures, or print the paper's table beside the model's.",
    ),
}


@click.group(
    cls=LazyGroup,
    commands_in=_COMMANDS,
    context_settings={"auto_envvar_prefix": "UIHLM", "help_option_names": ["-h", "--help"]},
)
@click.version_option(version("uihlm"), prog_name="uihlm")
def main() -> None:
    """A language model split over a radio link: the device's end.

    A small model here drafts; a base station's large model checks only the tokens worth asking about. Without --server a
    base station starts by itself on this machine.

    \b
      uihlm-device chat "Why is the sky blue?"
      uihlm-device eval --dataset alpaca --limit 10
    """
