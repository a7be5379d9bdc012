'''What the user types: lines, """ blocks and slash commands.'''

from __future__ import annotations

import contextlib
import enum
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

QUOTES = '"""'


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
        elif isinstance(sys.stdin, io.TextIOWrapper):
            # A byte that is no text costs its own line (`checked`), not all that was read from the pipe with it.
            sys.stdin.reconfigure(errors="surrogateescape")

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
