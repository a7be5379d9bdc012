"""Is a command of a page one that exists, with flags it has and values they take? Nothing runs."""

from __future__ import annotations

import argparse
import copy
import functools
import importlib.util
import re
import runpy
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
import yaml
from packaging.requirements import InvalidRequirement, Requirement

from pages import ROOT, Command
from uihlm_cli.basestation import main as basestation
from uihlm_cli.device import main as device

PROGRAMS: dict[str, click.Group] = {"uihlm-bs": basestation, "uihlm-device": device}
# Programs of others that a page may call: nothing is known here of their flags.
FOREIGN = frozenset(
    {"cd", "chmod", "curl", "echo", "export", "git", "jq", "llm", "mkdir", "printf", "ray", "source", "tar"}
)


class Parsed(BaseException):
    """The arguments were read; what would come next is not to happen."""


def check(command: Command) -> str | None:
    """What is wrong with a command; None if nothing is."""
    for name, _ in command.environment:
        if name.startswith("UIHLM_") and name not in variables():
            return f"no flag reads the environment variable {name}"
    if command.program in PROGRAMS:
        return _click(PROGRAMS[command.program], command)
    if command.program in FOREIGN:
        return None
    checks: dict[str, Callable[[list[str]], str | None]] = {
        "pip": _pip, "python": _python, "docker": _docker, "tox": _tox, "pytest": _pytest,
    }  # fmt: skip
    if command.program not in checks:
        return f"unknown program {command.program!r}: if it is right, tests/page_parsing.py must learn of it"
    wrong = checks[command.program](list(command.words[1:]))
    # A sentence may name a command by its first words.
    return None if wrong and "arguments are required" in wrong and not command.fenced else wrong


def _parameters() -> list[tuple[str, click.Parameter]]:
    """The prefix of every command's environment variables with each of its parameters."""
    found = []
    for group in PROGRAMS.values():
        context = click.Context(group, auto_envvar_prefix="UIHLM")
        for name in group.list_commands(context):
            child = group.get_command(context, name)
            assert child is not None
            settings = {"auto_envvar_prefix": f"UIHLM_{name}"} | child.context_settings
            found += [(str(settings["auto_envvar_prefix"]), parameter) for parameter in child.params]
    return found


@functools.cache
def variables() -> frozenset[str]:
    """Every environment variable that is read: one a flag, and those the code asks for by name."""
    named = {f"{prefix}_{parameter.name}".upper().replace("-", "_") for prefix, parameter in _parameters()}
    for path in ROOT.glob("*/uihlm_*/**/*.py"):
        named |= set(re.findall(r"\"(UIHLM_[A-Z_]+)\"", path.read_text(encoding="utf-8")))
    return frozenset(named)


def flags() -> set[str]:
    """Every flag of every command."""
    opts = {flag for _, parameter in _parameters() for flag in (*parameter.opts, *parameter.secondary_opts)}
    return opts | {"--help", "--version"}


def _click(group: click.Group, command: Command) -> str | None:
    context = click.Context(group, auto_envvar_prefix="UIHLM")
    if len(command.words) < 2 or command.words[1].startswith("-"):
        return (
            None if set(command.words[1:]) <= {"--help", "--version"} else f"{command.words[1]} is no flag of the group"
        )
    found = group.get_command(context, command.words[1])
    if found is None:
        return f"there is no command {command.words[1]!r}"
    twin = copy.copy(found)
    twin.params = [_without_files(parameter) for parameter in found.params]
    try:
        twin.make_context(command.words[1], list(command.words[2:]), parent=context)
    except click.exceptions.Exit:
        return None
    except click.MissingParameter as error:
        return error.format_message() if command.fenced else None
    except click.ClickException as error:
        return error.format_message()
    return None


def _without_files(parameter: click.Parameter) -> click.Parameter:
    """The parameter, taking any path: the files that a page names are not there, and what is in them is not the question."""
    twin = copy.copy(parameter)
    if isinstance(twin.type, click.Path | click.File):
        twin.type, twin.callback = click.STRING, None
    return twin


def _python(words: list[str]) -> str | None:
    if words[:1] == ["-c"]:
        try:
            compile(words[1], "page", "exec")
        except SyntaxError as error:
            return str(error)
        return None
    if words[:1] == ["-m"]:
        if words[1] in ("pip", "pytest"):
            return {"pip": _pip, "pytest": _pytest}[words[1]](words[2:])
        found = _module(words[1])
        return f"there is no module {words[1]}" if found is None else _script(found, words[1], words[2:])
    if not words or not (ROOT / words[0]).is_file():
        return f"there is no file {' '.join(words[:1])}"
    return _script(ROOT / words[0], None, words[1:])


def _module(name: str) -> Path | None:
    """The file that `python -m name` runs."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _script(path: Path, module: str | None, arguments: list[str]) -> str | None:
    """Run a script as far as it has read its arguments."""
    if not re.search(r"\b(argparse|click)\b", path.read_text(encoding="utf-8")):
        return f"{path.name} reads no arguments, and is given {arguments}" if arguments else None
    real = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> NoReturn:
        real(self, args, namespace)
        raise Parsed

    def invoked(self: click.Command, args: Any = None, prog_name: str | None = None, **extra: Any) -> NoReturn:
        self.make_context(prog_name or "script", list(sys.argv[1:] if args is None else args))
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(argparse.ArgumentParser, "error", _refuse)
        patch.setattr(click.Command, "main", invoked)
        patch.setattr(sys, "argv", [str(path), *arguments])
        try:
            runpy.run_module(module, run_name="__main__") if module else runpy.run_path(str(path), run_name="__main__")
        except Parsed:
            return None
        except (ValueError, click.ClickException) as error:
            return str(error)
    return f"{path.name} ended without having read its arguments"


def _refuse(self: argparse.ArgumentParser, message: str) -> NoReturn:
    raise ValueError(message)


def _pip(words: list[str]) -> str | None:
    """Of `pip install`: the files are there, and what is wanted of this package is an extra it has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if words[:1] != ["install"]:
        return f"pip {' '.join(words[:1])} is not known here"
    expects_file = False
    for word in words[1:]:
        if expects_file:
            expects_file = False
            if not (ROOT / word).is_file():
                return f"there is no file {word}"
        elif word in ("-c", "-r"):
            expects_file = True
        elif not word.startswith("-"):
            try:
                requirement = Requirement(word.replace(".", "uihlm", 1) if word.startswith(".") else word)
            except InvalidRequirement as error:
                return str(error)
            missing = requirement.extras - set(extras) if requirement.name == "uihlm" else set()
            if missing:
                return f"this package has no extra {', '.join(sorted(missing))}"
    return None


def _tox(words: list[str]) -> str | None:
    known = re.search(r"env_list = (.*)", (ROOT / "tox.ini").read_text(encoding="utf-8"))
    assert known
    names = {name.strip() for name in known[1].split(",")}
    wanted = {name for flag, given in pairwise(words) if flag == "-e" for name in given.split(",")}
    return f"tox has no environment {', '.join(sorted(wanted - names))}" if wanted - names else None


def _pytest(words: list[str]) -> str | None:
    missing = [word for word in words if word.startswith("tests") and not (ROOT / word.split("::")[0]).exists()]
    return f"there is no {missing[0]}" if missing else None


def _docker(words: list[str]) -> str | None:
    """Of `docker compose`: the service is in the compose file, and what it is to run is right."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    if words[:2] == ["compose", "up"]:
        return None
    if words[:1] != ["compose"] or words[1] not in ("exec", "run", "logs", "down", "build", "ps"):
        return f"docker {' '.join(words[:2])} is not known here"
    rest = [word for word in words[2:] if not word.startswith("-")] if words[1] != "run" else words[2:]
    while rest and rest[0].startswith("-"):
        del rest[0]
    if rest and rest[0] not in services:
        return f"compose.yaml has no service {rest[0]}"
    inner = words[words.index(rest[0]) + 1 :] if rest else []
    return check(Command("docker", 0, tuple(inner))) if inner else None
