"""Files that hold a link's trace, read strictly.

    CSV        seconds,bit_s      a rate in bit/s that holds from its time until the next line's; the last as long as the
               0,250000           one before it. One header line, empty lines and lines that begin with # are allowed;
               0.5,100000         times count from the first one.
    Mahimahi   3                  a packet-delivery file: each line is a millisecond at which one packet of 1,504 bytes may
               3                  leave; a line that repeats lets one more leave; the last line is the end.
               7

Which of the two it is, the first line with data says: only a CSV has a comma.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from uihlm_proto.errors import UihlmError
from uihlm_wireless.trace import NS, Trace, TraceEnd

MAHIMAHI_PACKET_BIT = 1504 * 8
_MS_NS = 1_000_000
# Of the clock: some thirty years.
_LONGEST_S = 1e9


class TraceError(UihlmError):
    """A trace file that cannot be read, or is not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class LinkTrace:
    """Where a link's trace lies, which it is, and what comes after its end.

    Attributes:
        path: of the file.
        sha256: of its content, so that the settings of a run name the very trace.
        end: what comes after it.
    """

    path: str
    sha256: str
    end: TraceEnd = TraceEnd.LOOP

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the file at a path; TraceError if it holds no trace."""
        content = _content(path)
        parsed(content, str(path))
        return cls(str(path), hashlib.sha256(content).hexdigest())

    def load(self) -> Trace:
        """Return the trace; TraceError if the file is gone or has changed."""
        return _loaded(self.path, self.sha256)


@functools.lru_cache(maxsize=8)
def _loaded(path: str, sha256: str) -> Trace:
    content = _content(Path(path))
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise TraceError(
            f"{path} holds another trace than this run's settings name (sha256 {found[:12]}…, expected {sha256[:12]}…): "
            "bring that back, or start a new run"
        )
    return parsed(content, path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TraceError(f"the link's trace {path} cannot be read: {error.strerror}") from error


def parsed(content: bytes, name: str) -> Trace:
    """Return the trace that a file holds; `name` stands in the messages.

    Raises:
        TraceError: with the line's number, for a number that is missing, not finite, negative or out of order; for a file
            without data, without length, or that carries nothing.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise TraceError(f"{name} is no text: a trace is a CSV of seconds and bit/s, or a Mahimahi file") from error
    numbered = [(number, text.strip()) for number, text in enumerate(lines, 1)]
    data = [(number, text) for number, text in numbered if text and not text.startswith("#")]
    if not data:
        raise TraceError(f"{name} holds no line of data: expected seconds,bit/s or a millisecond a line")
    trace = _csv(data, name) if "," in data[0][1] else _mahimahi(data, name)
    if not trace.offered_bit[-1] > 0.0:
        raise TraceError(f"{name} carries no bit from end to end: no message would ever get through")
    return trace


def _csv(data: Sequence[tuple[int, str]], name: str) -> Trace:
    rows = list(_rates(data, name))
    if not rows:
        raise TraceError(f"{name} holds a header and no line of data: expected seconds,bit/s")
    first_s = rows[0][1]
    begins_ns = [round((at_s - first_s) * NS) for _, at_s, _ in rows]
    for (number, at_s, _), before_ns, begin_ns in zip(rows[1:], begins_ns, begins_ns[1:], strict=False):
        if begin_ns <= before_ns:
            raise TraceError(
                f"{name}, line {number}: times must increase by a nanosecond at least, got {at_s:.9g} s, not after the line "
                "before it"
            )
    if begins_ns[-1] > _LONGEST_S * NS:
        raise TraceError(f"{name} spans {begins_ns[-1] / NS:.3g} s: a trace of at most {_LONGEST_S:.0e} s is expected")
    return Trace.of_rates(np.array(begins_ns, dtype=np.int64), np.array([rate for *_, rate in rows], dtype=np.float64))


def _rates(data: Sequence[tuple[int, str]], name: str) -> Iterator[tuple[int, float, float]]:
    """Yield line number, seconds and bit/s of each line; a first line without any number is a header."""
    for place, (number, text) in enumerate(data):
        fields = [field.strip() for field in text.split(",")]
        if place == 0 and not any(_is_number(field) for field in fields):
            continue
        if len(fields) != 2 or not all(map(_is_number, fields)):
            raise TraceError(f"{name}, line {number}: expected two numbers, seconds and bit/s, got {text!r}")
        at_s, rate_bit_s = map(float, fields)
        for what, value in (("seconds", at_s), ("bit/s", rate_bit_s)):
            if not (math.isfinite(value) and value >= 0.0):
                raise TraceError(f"{name}, line {number}: {what} must be finite and at least 0, got {value}")
        yield number, at_s, rate_bit_s


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _mahimahi(data: Sequence[tuple[int, str]], name: str) -> Trace:
    at_ms: list[int] = []
    for number, text in data:
        if not (text.isascii() and text.isdigit()):
            raise TraceError(
                f"{name}, line {number}: expected a whole millisecond of at least 0 (Mahimahi), or seconds,bit/s, got {text!r}"
            )
        at_ms.append(int(text))
        if len(at_ms) > 1 and at_ms[-1] < at_ms[-2]:
            raise TraceError(f"{name}, line {number}: milliseconds must not fall, got {at_ms[-1]} after {at_ms[-2]}")
    if not 0 < at_ms[-1] <= _LONGEST_S * 1000:
        raise TraceError(
            f"{name} ends at millisecond {at_ms[-1]}: its last line is its length, above 0 and at most {_LONGEST_S:.0e} s"
        )
    return Trace.of_opportunities(np.array(at_ms, dtype=np.int64) * _MS_NS, MAHIMAHI_PACKET_BIT)


def csv_text(rates_bit_s: Sequence[float], step_s: float, comments: Sequence[str] = ()) -> str:
    """Return a CSV of rates that each hold for `step_s`, after comment lines."""
    told = "".join(f"# {comment}\n" for comment in comments)
    rows = (f"{round(place * step_s, 9):.9g},{rate:.9g}\n" for place, rate in enumerate(rates_bit_s))
    return told + "seconds,bit_s\n" + "".join(rows)
