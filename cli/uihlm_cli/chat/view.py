"""Everything that `chat` shows: the answer on stdout, all else on stderr.

Every origin has a colour and a second cue. Colours need a terminal (or --color always); with NO_COLOR set, a terminal
still gets the second cues.
"""

from __future__ import annotations

import codecs
import enum
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import click

from uihlm_cli.chat.settings import Setting
from uihlm_cli.chat.slash_commands import COMMANDS, HelpLine
from uihlm_device.tokens import Origin
from uihlm_device.turn import Turn
from uihlm_models.tokenizer import Tokenizer
from uihlm_wireless.energy import Joules


class Color(enum.StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class _Paint(enum.Enum):
    """What a stream takes."""

    PLAIN = "plain"
    CUES = "bold, underline and italic, no colour"
    FULL = "colours and cues"


@dataclass(frozen=True, slots=True)
class _Style:
    """How an origin looks, and what it means."""

    meaning: str
    fg: str | None = None
    bold: bool | None = None
    underline: bool | None = None
    italic: bool | None = None
    strikethrough: bool | None = None


_STYLES = {
    Origin.LOCAL: _Style("the device's own, not checked"),
    Origin.ACCEPTED: _Style("uploaded, the LLM let it stand", fg="green", underline=True),
    Origin.RESAMPLED: _Style("uploaded, the LLM put this in its place", fg="yellow", bold=True),
    Origin.LLM: _Style("written by the LLM alone", fg="cyan", italic=True),
    Origin.BONUS: _Style("the LLM's, after a whole accepted block", fg="cyan", bold=True, underline=True),
    Origin.OUTAGE: _Style("the device's own, not checked because the link was lost", fg="red", strikethrough=True),
}
# Only what a loop of one draft an upload can write.
_LEGEND = (Origin.LOCAL, Origin.ACCEPTED, Origin.RESAMPLED, Origin.LLM)

# A model may write anything: on a terminal, control characters would act.
_VISIBLE = {code: 0xFFFD for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\n\t"}


class View:
    """The two streams of one chat."""

    def __init__(self, tokenizer: Tokenizer, color: Color, interactive: bool, goes_on_alone: bool = False) -> None:
        """Prepare to show answers.

        Args:
            tokenizer: turns ids into bytes.
            color: when to colour.
            interactive: whether somebody types, and should be told how.
            goes_on_alone: whether tokens may come from the device because the base station is lost.
        """
        self._tokenizer = tokenizer
        self._interactive = interactive
        self._legend = (*_LEGEND, Origin.OUTAGE) if goes_on_alone else _LEGEND
        self._stdout = _paint(sys.stdout, color)
        self._stderr = _paint(sys.stderr, color)
        self._terminal = sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._answered = False
        self._line_open = False

    def welcome(self, drafter: str, target: str, policy: str, link: str) -> None:
        """Say what runs and how to go on; nothing where nobody types, save what the colours mean."""
        if self._interactive:
            self._say(self._bold("uihlm chat"))
            self._say(self._faint(f"  drafts   {drafter}"))
            self._say(self._faint(f"  checks   {target}"))
            self._say(self._faint(f"  policy   {policy}; {link}; /help for commands, Ctrl-D leaves"))
        if self._stdout is not _Paint.PLAIN:
            self._say(self._faint("  tokens   ") + " · ".join(self._sample(origin) for origin in self._legend))

    def prompt(self, mark: str) -> str:
        """Return the prompt where `input` shows it on the terminal; else show it on stderr."""
        lead = "\n" if mark == ">" else ""
        if not self._terminal:
            # Not `input`'s own prompt: it would land in the data.
            click.echo(f"{lead}{self._bold(mark)} ", nl=False, err=True, color=True)
            return ""
        if self._stderr is _Paint.PLAIN or "readline" not in sys.modules:
            return f"{lead}{mark} "
        # The brackets tell readline that what is inside takes no room.
        return f"{lead}\001\x1b[1m\002{mark}\001\x1b[0m\002 "

    def token(self, token: int, origin: Origin, stop: bool) -> None:
        """Show one token of the answer; half a character waits for its rest."""
        if stop:
            # An answer of nothing but a stop token is an empty line.
            self._line_open = self._line_open or not self._answered
        else:
            self._write(self._decoder.decode(self._tokenizer.piece(token)), origin)
        self._answered = True

    def end_answer(self) -> None:
        """End the answer: what is left of a half character, and a newline if there is none."""
        self._write(self._decoder.decode(b"", final=True), Origin.LOCAL)
        self._decoder.reset()
        if self._line_open:
            click.echo()
        self._line_open = self._answered = False

    def turn(self, turn: Turn, vocabulary_size: int, note: str | None, measured: str | None = None) -> None:
        """Show the end-of-turn line; `measured` is what meters say of its joules."""
        saving = turn.energy_saving(vocabulary_size)
        parts = [
            f"{turn.tokens} tokens",
            _number(turn.speed_tok_s, "{:.1f} tok/s"),
            *([f"{turn.outage} unchecked, link lost"] if turn.outage else []),
            f"uploaded {_number(turn.upload_rate, '{:.0%}')}",
            f"accepted {_number(turn.acceptance_rate, '{:.0%}')}",
            f"LLM {turn.llm_forwards / max(turn.tokens, 1):.2f} forwards/tok",
            f"{_quantity(turn.model_bits / max(turn.tokens, 1), 'bit')}/tok",
            f"link {turn.link_s:.2f} s",
            f"energy saved {_number(saving, '≥ {:.0%}')}",
            *([measured] if measured is not None else []),
        ]
        line = " · ".join(parts)
        self._say(self._faint(f"[{line}]" if note is None else f"[{note} · {line}]"))

    def stats(
        self,
        totals: Turn,
        vocabulary_size: int,
        joules: Joules,
        conversation: int,
        context: int,
        measured: str | None = None,
    ) -> None:
        """Show the totals of the chat."""
        tokens = max(totals.tokens, 1)
        saving = _number(totals.energy_saving(vocabulary_size), "at least {:.1%}")
        speed = _number(totals.speed_tok_s, "{:.1f} tok/s")
        rows = [
            HelpLine("chat", f"{totals.answers} answers, {totals.tokens} tokens, {speed}"),
            HelpLine("conversation", f"number {conversation}, {context} tokens long"),
            HelpLine(
                "uploaded", f"{totals.uploaded} of {totals.tokens} tokens, {_number(totals.upload_rate, '{:.1%}')}"
            ),
            HelpLine(
                "accepted",
                f"{totals.uploaded - totals.rejected} of {totals.uploaded} uploads, "
                f"{_number(totals.acceptance_rate, '{:.1%}')}",
            ),
            *(
                [HelpLine("link lost", f"{totals.outage} tokens kept that would have been asked about")]
                if totals.outage
                else []
            ),
            HelpLine(
                "risk",
                f"{_number(totals.skipped_risk, '{:.1%}')} of all tokens the LLM would have rejected among the skipped "
                f"({totals.audited} of {totals.skipped} audited)"
                if totals.audited
                else "of skipping: not audited (--audit)",
            ),
            HelpLine(
                "LLM",
                f"{totals.llm_forwards} forwards, {totals.llm_forwards / tokens:.2f} a token; "
                f"{totals.llm_positions} positions; {totals.forward_s:.2f} s busy",
            ),
            HelpLine(
                "sent",
                f"model {_quantity(totals.model_bits, 'bit')}, payload {_quantity(totals.payload_bits, 'bit')}, "
                f"wire {_quantity(totals.wire_bytes, 'B')} (both ways, with the prompts)",
            ),
            HelpLine("link", f"{totals.link_s:.2f} s, {totals.airtime_s:.2f} s of it on the air"),
            HelpLine("energy saved", f"{saving} against uploading every token (the paper's cost model)"),
            HelpLine(
                "energy",
                f"{joules.total_j:.1f} J: device {joules.device_j:.1f}, transmitter {joules.transmit_j:.1f}, "
                f"base station {joules.basestation_j:.1f} (modelled: the given watts × busy time)",
            ),
            *([HelpLine("measured", measured)] if measured is not None else []),
        ]
        self._table(rows)

    def help(self) -> None:
        """Show the commands, what the tokens' looks mean, and what the end-of-turn line says."""
        self._table(COMMANDS)
        if self._stdout is not _Paint.PLAIN:
            self._say("")
            for origin in self._legend:
                self._say(f"  {self._sample(origin, 17)}{self._faint(_STYLES[origin].meaning)}")
        self._say("")
        self._say(
            self._faint(
                "  After an answer: accepted is of the uploaded; bits are model bits, the paper's B; link is time on the\n"
                "  link; energy saved is the paper's cost model against uploading every token, a lower bound."
            )
        )

    def settings(self, settings: Sequence[Setting]) -> None:
        """List what /set changes."""
        for setting in settings:
            self._say(f"  {setting.name:<12}{self._bold(f'{setting.value:<14}')}{self._faint(setting.meaning)}")

    def note(self, text: str) -> None:
        """Say something that is no error."""
        self._say(self._faint(text))

    def error(self, text: str) -> None:
        """Say what went wrong."""
        label = "error: " if self._stderr is not _Paint.FULL else click.style("error: ", fg="red", bold=True)
        self._say(f"{label}{text}")

    def _write(self, text: str, origin: Origin) -> None:
        if not text:
            return
        if self._terminal:
            text = text.translate(_VISIBLE)
        self._line_open = not text.endswith("\n")
        click.echo(_styled(text, origin, self._stdout), nl=False, color=True)

    def _sample(self, origin: Origin, width: int = 0) -> str:
        """Return an origin's name in its own look, as stdout shows it."""
        return _styled(origin.value, origin, self._stdout) + " " * (width - len(origin.value))

    def _table(self, rows: Sequence[HelpLine]) -> None:
        for row in rows:
            self._say(f"  {row.usage:<17}{self._faint(row.meaning)}")

    def _faint(self, text: str) -> str:
        return text if self._stderr is _Paint.PLAIN else click.style(text, dim=True)

    def _bold(self, text: str) -> str:
        return text if self._stderr is _Paint.PLAIN else click.style(text, bold=True)

    def _say(self, text: str) -> None:
        click.echo(text, err=True, color=True)


def _paint(stream: IO[str], color: Color) -> _Paint:
    """Return what a stream takes; a flag wins over the environment."""
    if color is not Color.AUTO:
        return _Paint.FULL if color is Color.ALWAYS else _Paint.PLAIN
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return _Paint.PLAIN
    return _Paint.CUES if os.environ.get("NO_COLOR") else _Paint.FULL


def _styled(text: str, origin: Origin, paint: _Paint) -> str:
    style = _STYLES[origin]
    if paint is _Paint.PLAIN or style == _Style(style.meaning) or text.isspace():
        return text
    return click.style(
        text,
        fg=style.fg if paint is _Paint.FULL else None,
        bold=style.bold,
        underline=style.underline,
        italic=style.italic,
        strikethrough=style.strikethrough,
    )


def _number(value: float | None, form: str) -> str:
    """Return a value in words; a dash where there is none."""
    return "–" if value is None else form.format(value)


def _quantity(value: float, unit: str) -> str:
    """Return a count to three digits with a decimal prefix: 1,572,864 bit is 1.57 Mbit."""
    prefixes = ["", "k", "M", "G"]
    while abs(value) >= 999.5 and len(prefixes) > 1:
        value /= 1000.0
        del prefixes[0]
    prefix = prefixes[0]
    decimals = 0 if value >= 99.95 or (value % 1 == 0 and not prefix) else 1 if value >= 9.995 else 2
    return f"{value:.{decimals}f} {prefix}{unit}"
