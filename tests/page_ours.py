"""Runs one command of `uihlm-bs` or `uihlm-device` small, in this process, against base stations of the test's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click
from click.testing import CliRunner

import page_pools
from page_parsing import PROGRAMS
from page_stations import TOKEN, Stations
from pages import ROOT, Command, write_module

# What makes each command small: given last, so it wins over the page.
SMALL: dict[tuple[str, str], tuple[str, ...]] = {
    ("uihlm-device", "chat"): ("--max-tokens", "6"),
    ("uihlm-device", "eval"): ("--limit", "1", "--max-tokens", "6", "--no-metrics"),
    ("uihlm-device", "sweep"): ("--limit", "2", "--max-tokens", "4", "--no-metrics", "--jobs", "1"),
    ("uihlm-device", "calibrate"): ("--limit", "8", "--max-tokens", "8", "--no-plots"),
    ("uihlm-device", "trace"): ("--limit", "8", "--max-tokens", "4"),
    ("uihlm-device", "score"): (),
    ("uihlm-device", "rebill"): (),
    ("uihlm-device", "joules"): (),
    ("uihlm-device", "report"): (),
    ("uihlm-device", "plan"): (),
    ("uihlm-device", "link-trace"): ("--duration-s", "0.2"),
    ("uihlm-device", "serve"): ("--port", "0"),
    ("uihlm-bs", "serve"): ("--port", "0"),
    ("uihlm-bs", "health"): (),
    ("uihlm-bs", "top"): ("--once",),
    **{(program, flag): () for program in ("uihlm-bs", "uihlm-device") for flag in ("--help", "--version")},
}
# What must be read in its output, besides an exit code of 0.
SAYS = {
    ("uihlm-bs", "health"): "SERVING",
    ("uihlm-bs", "top"): "rounds, 1/s",
    ("uihlm-bs", "serve"): "ready: ",
    ("uihlm-device", "serve"): "ready: ",
    ("uihlm-device", "score"): "oracle",
}
# Commands of which the page says that they are refused, and with what.
REFUSED = {("add-a-policy.md", ("uihlm-device", "score", "policy:margin")): "a trace keeps"}
# Stands in for a pack that a sentence speaks of and no command of the page makes.
PACK = "packs/stand-in"


def lacks(command: Command) -> str | None:
    """What a command in a sentence needs and is not given; None of one that is whole."""
    context = click.Context(PROGRAMS[command.program])
    found = PROGRAMS[command.program].get_command(context, command.words[1])
    if found is None:
        # `--help` and `--version`, which are whole.
        return None
    try:
        found.make_context(command.words[1], list(completed(command)[2:]), parent=context)
    except click.MissingParameter as error:
        return error.format_message()
    except (click.ClickException, click.exceptions.Exit):
        return None
    return None


def pooled(command: Command) -> bool:
    """Whether it takes Ray."""
    return "--engine-pool" in command.words


def missing(command: Command) -> str | None:
    """What this machine lacks to run a command; None if nothing."""
    needs = {"sionna": "link-trace" in command.words, "ray": pooled(command)}
    lacking = [package for package, needed in needs.items() if needed and find_spec(package) is None]
    return f"{lacking[0]} is not installed here (an extra: pip install 'uihlm[{lacking[0]}]')" if lacking else None


def completed(command: Command) -> tuple[str, ...]:
    """The words, with what the sentence around a command gives and its words leave out."""
    words = tuple("your_rule.py:margin" if word == "YOUR-RULE" else word for word in command.words)
    if command.fenced:
        return words
    if words[:2] == ("uihlm-device", "score") and "--trace" not in words:
        return (*words, "--trace", PACK)
    if words == ("uihlm-device", "joules"):
        # The page's own run.
        return (*words, "runs/walled", "--meter-device", "wall.csv")
    if "--server-application" in words and "--server" not in words:
        return (*words, "--server", "HOST:50051")
    if pooled(command) and "--insecure" not in words:
        return (*words, "--insecure")
    return words


def run(command: Command, stations: Stations) -> str | None:
    """Run a command small; what went wrong, if anything."""
    words = completed(command)
    if pooled(command):
        return page_pools.run(list(words[1:]))
    if "YOUR-RULE" in command.words:
        write_module(ROOT / "docs" / "add-a-rule.md", Path.cwd(), "your_rule", "margin")
    if "--trace" in words:
        _stand_in_pack(Path(words[words.index("--trace") + 1]), made_here=command.fenced)
    arguments = [*words[1:], *SMALL[words[:2]]]
    if "--server" in words:
        arguments[arguments.index("--server") + 1] = stations.of(command)
        if "--meter" in words:
            # The page's base station is another machine, whatever its address here.
            arguments.append("--meter-apart")
    elif words[1] == "health":
        arguments += ["--server", stations.of(command)]
    if "--metrics-port" in words:
        arguments += ["--metrics-port", "0"]
    if words[1] == "top":
        arguments += ["--metrics", stations.metrics]
    if words[1] == "eval" and "--output" not in words:
        # Folders are named after the second, and these runs take less.
        arguments += ["--output", f"runs/line-{command.line}"]
    if "--dtype" in words:
        arguments += ["--threads", "1"]
    if "--measure" in words:
        arguments += ["--limit", "2", "--answer-tokens", "64"]
    if "--learn" in words:
        # Of these few tokens u uploads none at its threshold.
        arguments += ["--upload-rate", "0.4"]
    result = CliRunner(env=_environment(command)).invoke(PROGRAMS[words[0]], arguments, input="Say hello.\n")
    said = " ".join(result.output.split())
    refusal = REFUSED.get((command.page, command.words))
    if refusal is not None:
        refused = result.exit_code != 0 and refusal in said
        return None if refused else f"not refused with {refusal!r}: exit code {result.exit_code}: {said[-800:]}"
    wanted = SAYS.get(words[:2], "")
    if result.exit_code == 0 and wanted in said:
        return None
    return f"exit code {result.exit_code}, {wanted!r} was to be said: {result.output[-800:]}{result.exception!r}"


def _environment(command: Command) -> dict[str, str | None]:
    """The command's own variables; a token that the page leaves to the reader is the test's."""
    return {name: TOKEN if name == "UIHLM_TOKEN" else value for name, value in command.environment}


def _stand_in_pack(folder: Path, made_here: bool) -> None:
    """Make the pack that a sentence speaks of, where it is not there."""
    if made_here or folder.exists():
        return
    arguments = ["trace", *SMALL["uihlm-device", "trace"], "--output", str(folder)]
    result = CliRunner().invoke(PROGRAMS["uihlm-device"], arguments)
    assert result.exit_code == 0, result.output
