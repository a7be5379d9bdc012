"""Logs on stderr: lines of text, or one JSON object a line with `time`, `level`, `session`, `message`.

A session is a number that this process gave to a stream; it names no device. Messages never hold token ids, texts, keys or
credentials: what a device is told about its request stays between the two ends, and the log has the status alone.
"""

from __future__ import annotations

import enum
import json
import logging
import sys
from datetime import UTC, datetime

from uihlm_basestation.observing.servicer import STREAM
from uihlm_basestation.observing.telemetry import Ending, Forward, Round

log = logging.getLogger("uihlm_basestation.sessions")


class LogFormat(enum.Enum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.Enum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """The level in the standard library's numbers."""
        return logging.getLevelNamesMapping()[self.name]


class JsonFormatter(logging.Formatter):
    """One object a line; a traceback is a field of it, so that a line is always a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        fields: dict[str, str | int | None] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "session": STREAM.get(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level, session if there is one, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line; a traceback follows on lines of its own."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        stream = STREAM.get()
        session = "" if stream is None else f" [session {stream}]"
        text = f"{stamp} {record.levelname.lower()}{session} {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class StderrHandler(logging.Handler):
    """Writes to what stderr is when a record comes; one of them is enough for a process."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def log_to_stderr(form: LogFormat, level: LogLevel) -> None:
    """Send every log record of this process from `level` on to stderr; said twice, the second time counts."""
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else TextFormatter())
    root = logging.getLogger()
    for other in [other for other in root.handlers if isinstance(other, StderrHandler)]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level.number)


class SessionLog:
    """Logs streams at `info` and rounds at `debug` (`uihlm_basestation.observing.telemetry.Telemetry`)."""

    def opened(self) -> None:
        """Log that a session stands."""
        log.info("session opened")

    def round(self, round: Round) -> None:
        """Log a round's numbers."""
        log.debug(
            "round %s: %.4f s, forward %.4f s, queue %.4f s, accepted %d, rejected %d, generated %d, skipped %d",
            round.kind.value,
            round.seconds,
            round.forward_s,
            round.queue_s,
            round.accepted,
            round.rejected,
            round.generated,
            round.skipped,
        )

    def ended(self, ending: Ending) -> None:
        """Log how a stream ended."""
        what = "session ended" if ending.stood else "stream ended before a session stood"
        log.info("%s: %s, %d rounds in %.3f s", what, ending.status, ending.rounds, ending.seconds)

    def forward(self, forward: Forward) -> None:
        """Log a forward; it belongs to many sessions, and to none."""
        log.debug("forward: %d sessions, %d positions, %.4f s", forward.sessions, forward.positions, forward.seconds)
