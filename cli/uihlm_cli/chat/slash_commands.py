'''What the user types: lines, """ blocks, slash commands, and the settings that /set changes.'''

from __future__ import annotations

import contextlib
import enum
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from uihlm_cli.options.flags import Values
from uihlm_cli.options.settings import run_config
from uihlm_device.rules.policies import policy
from uihlm_evaluation.runs.configuration import RunConfig, Selection
from uihlm_proto.errors import InvalidRequestError, UihlmError

QUOTES = '"""'

# The policy of a chat that chooses one for each answer (pilot.py).
AUTO = "auto"

# In the order that /set lists them. Everything else needs other models, another codec or another link.
SETTABLE = (
    "policy",
    "theta_u",
    "k",
    "gamma",
    "theta_c",
    "rate",
    "objective",
    "estimator",
    "temperature",
    "top_k",
    "top_p",
    "max_tokens",
    "seed",
)


class CommandError(Exception):
    """A typed line that cannot be done; the message says why. The chat goes on."""


class Cancelled(Exception):  # noqa: N818 - nothing went wrong
    """Ctrl-C on something half typed, which is left out; an empty line's Ctrl-C is a KeyboardInterrupt."""


class Action(enum.Enum):
    """What a typed line asks for."""

    SAY = "say"
    HELP = "help"
    CLEAR = "clear"
    SYSTEM = "system"
    SET = "set"
    STATS = "stats"
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing typed.

    Attributes:
        action: what it asks for.
        text: the message, or what follows the command's name.
    """

    action: Action
    text: str = ""


@dataclass(frozen=True, slots=True)
class HelpLine:
    """A command and what it does."""

    usage: str
    meaning: str


COMMANDS = (
    HelpLine("/set NAME VALUE", "change a setting from the next answer on; /set alone lists them"),
    HelpLine("/system TEXT", "set the system prompt and start a new conversation; /system alone shows it"),
    HelpLine("/system -", "go back to the model's own system prompt and start a new conversation"),
    HelpLine("/clear", "start a new conversation"),
    HelpLine("/stats", "totals of this chat"),
    HelpLine("/help", "this text"),
    HelpLine("/exit", "leave; so does Ctrl-D"),
    HelpLine('"""', 'begins a message of several lines; it ends with the next """'),
    HelpLine("//TEXT", "a message that begins with a slash"),
    HelpLine("Ctrl-C", "stop the answer and keep what is there; twice, leave"),
)

_ALIASES = {"quit": Action.EXIT, "bye": Action.EXIT, "?": Action.HELP}
_WITH_TEXT = frozenset({Action.SYSTEM, Action.SET})


def stdin_is_terminal() -> bool:
    """Return whether somebody types."""
    return sys.stdin.isatty()


def half_typed() -> str:
    """Return what stood on the line that Ctrl-C broke off; empty where there is no line editing."""
    readline = sys.modules.get("readline")
    return "" if readline is None else str(readline.get_line_buffer())


class Reader:
    """Reads entries from stdin: line by line, or a block between triple quotes."""

    def __init__(self, prompt: Callable[[str], str], interactive: bool) -> None:
        """Read lines; the prompt in front of them is `prompt(">")`, shown only to somebody who types.

        Args:
            prompt: shows a mark, or returns it where `input` must show it.
            interactive: whether somebody types.
        """
        self._prompt = prompt
        self._interactive = interactive
        if interactive:
            # Line editing and a history; some Pythons come without it.
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401

    def read(self) -> Entry:
        """Return the next entry; the end of the input is an exit.

        Raises:
            CommandError: for an unknown command, a block that is not closed, or bytes that are no text.
            Cancelled: at Ctrl-C on a line or block half typed.
            KeyboardInterrupt: at Ctrl-C on an empty line.
        """
        while True:
            line = self._line(">")
            if line is None:
                if self._interactive:
                    # The shell's prompt should not stand behind ours.
                    click.echo(err=True)
                return Entry(Action.EXIT)
            head, quotes, rest = line.partition(QUOTES)
            if quotes and head.strip() in ("", "/system"):
                text = self._block(rest)
                return Entry(Action.SYSTEM if head.strip() else Action.SAY, checked(text))
            if line.strip():
                return parse(checked(line))

    def _block(self, first: str) -> str:
        """Return the text up to the closing quotes; `first` is what follows the opening ones."""
        lines = [first]
        while QUOTES not in lines[-1]:
            try:
                line = self._line("…")
            except KeyboardInterrupt as error:
                raise Cancelled from error
            if line is None:
                raise CommandError(f"the block begun with {QUOTES} was not closed, so it was left out")
            lines.append(line)
        last, _, after = lines[-1].partition(QUOTES)
        if after.strip():
            raise CommandError(f"nothing may follow the closing {QUOTES} on its line, got {after.strip()!r}")
        text = "\n".join([*lines[:-1], last]).strip("\n")
        if not text.strip():
            raise CommandError("the block is empty, so it was left out")
        return text

    def _line(self, mark: str) -> str | None:
        try:
            if self._interactive:
                try:
                    return input(self._prompt(mark))
                except EOFError:
                    return None
                except KeyboardInterrupt as error:
                    if half_typed():
                        raise Cancelled from error
                    raise
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise CommandError(f"the input is not UTF-8 text: {error}") from error
        return line.rstrip("\r\n") if line else None


def checked(text: str) -> str:
    """Return a text that can be tokenised; CommandError if it holds bytes that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CommandError("the input is not UTF-8 text") from error
    return text


def parse(line: str) -> Entry:
    """Return what one line asks for; CommandError if it is a command that is not known or is called wrongly."""
    line = line.strip()
    if not line.startswith("/"):
        return Entry(Action.SAY, line)
    if line.startswith("//"):
        return Entry(Action.SAY, line[1:])
    name, _, text = line[1:].partition(" ")
    known = {action.value: action for action in Action if action is not Action.SAY} | _ALIASES
    if name.lower() not in known:
        raise CommandError(f"there is no command /{name}: /help lists them; // sends a line that begins with a slash")
    action = known[name.lower()]
    text = text.strip()
    if text and action not in _WITH_TEXT:
        raise CommandError(f"/{action.value} takes nothing after it, got {text!r}")
    return Entry(action, text)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as /set lists it."""

    name: str
    value: str
    meaning: str


class Settings:
    """The flags of the command line, some of which can change between answers.

    Attributes:
        config: what they say now.
    """

    def __init__(self, context: click.Context) -> None:
        """Start from a command's flags.

        Raises:
            UihlmError: if a value is out of its range.
        """
        self._context = context
        self._values: Values = dict(context.params)
        self._options = {p.name: p for p in context.command.params if isinstance(p, click.Option) and p.name}
        self.config = _config(self._values)

    @property
    def policy(self) -> str:
        """Name of the policy, or AUTO."""
        return str(self._values["policy"])

    def flag(self, name: str) -> Any:
        """Return what a flag says now."""
        return self._values[name]

    @property
    def seed(self) -> int:
        """Seed of every token."""
        return self.config.selection.seed

    def list(self) -> list[Setting]:
        """Return what /set can change, with its value."""
        return [Setting(name, f"{self._values[name]}", self._options[name].help or "") for name in SETTABLE]

    def values(self) -> Values:
        """Return them all, for `restore`."""
        return self._values

    def restore(self, values: Values) -> None:
        """Take back what was changed since `values`."""
        self._values, self.config = values, _config(values)

    def change(self, text: str) -> Setting:
        """Apply `NAME VALUE` and return the setting as it is now; CommandError, and no change, if it cannot be."""
        name, _, value = text.replace("=", " ", 1).partition(" ")
        name, value = name.strip().lstrip("-").replace("-", "_"), value.strip()
        option = self._options.get(name)
        if option is None:
            raise CommandError(f"there is no setting {name}: known are {', '.join(SETTABLE)}")
        flag = option.opts[-1]
        if name not in SETTABLE:
            raise CommandError(f"{name} cannot change while the chat runs: start it again with {flag}")
        if not value:
            raise CommandError(f"/set {name} needs a value; it is {self._values[name]} now")
        try:
            new = option.type.convert(value, option, self._context)
            if isinstance(new, float) and not math.isfinite(new):
                raise CommandError(f"{name} must be a finite number, got {value}")
            values = {**self._values, name: new}
            self.config = _config(values)
        except click.BadParameter as error:
            raise CommandError(f"{name}: {error.message}") from error
        except UihlmError as error:
            raise CommandError(str(error)) from error
        self._values = values
        return Setting(name, f"{new}", option.help or "")


def _config(values: Values) -> RunConfig:
    if not -(2**63) <= values["seed"] < 2**63:
        raise InvalidRequestError(f"seed must fit 64 bits with sign, got {values['seed']}")
    chosen = {"draft_length": 1, "in_flight": 1, "tree": 0, "run_on": False}
    if values["policy"] == AUTO and any(values[name] != waits for name, waits in chosen.items()):
        raise click.BadParameter(
            "auto chooses them for each answer: leave out --draft-length, --in-flight, --tree and --run-on",
            param_hint="--policy",
        )
    # What AUTO chooses among is planned for as `hlm`.
    policies = ("hlm",) if values["policy"] == AUTO else (values["policy"],)
    config = run_config(values, policies, Selection(seed=values["seed"]))
    # Of another package's policy only its factory knows which settings it takes.
    policy(config.policies[0], config.rules)
    return config
