"""The flags that let a base station be seen from outside, and what they switch on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import click

from uihlm_basestation.observing.health import HealthPort
from uihlm_basestation.observing.logs import LogFormat, LogLevel, SessionLog, log_to_stderr
from uihlm_basestation.observing.telemetry import Listeners, Telemetry
from uihlm_cli.options.flags import F, Values, group, one_of, option

log = logging.getLogger(__name__)


observing_options: Callable[[F], F] = group(
    option(
        "--metrics-port",
        type=click.IntRange(0, 65535),
        help="Serve Prometheus metrics on this port; 0 takes a free one.  [default: no metrics]",
    ),
    option(
        "--metrics-host", default="127.0.0.1", help="Address of the metrics; plain HTTP, so let no stranger reach it."
    ),
    option(
        "--health-port",
        type=click.IntRange(0, 65535),
        help="Answer health checks on this port as well, without TLS; 0 takes a free one.  [default: on --port alone]",
    ),
    option(
        "--health-host", default="127.0.0.1", help="Address of the health checks; they tell only whether it serves."
    ),
    option("--reflection", is_flag=True, help="Tell clients the services' methods (grpcurl)."),
    one_of("--log-format", LogFormat.TEXT, "Lines on stderr; json is one object a line."),
    one_of("--log-level", LogLevel.WARNING, "The least that is logged: info has sessions, debug has rounds."),
)


class Voice:
    """Says what the command does, on stderr: as a sentence, or as a log record where every line must be one."""

    def __init__(self, form: LogFormat) -> None:
        self._records = form is LogFormat.JSON
        # Whatever the level: these are few, about the process, and not said in another way.
        log.setLevel(logging.INFO)

    def say(self, sentence: str) -> None:
        """Say a sentence."""
        if self._records:
            log.info("%s", sentence)
        else:
            click.echo(sentence, err=True)


def voice(values: Values) -> Voice:
    """Set the process's logs up as the flags say, and return its voice."""
    form = LogFormat(values["log_format"])
    log_to_stderr(form, LogLevel(values["log_level"]))
    return Voice(form)


@contextlib.contextmanager
def observers(values: Values, engine: str, voice: Voice) -> Iterator[Telemetry | None]:
    """Serve metrics while the block runs, if asked for, and yield who listens; None where nobody does.

    Raises:
        UnavailableError: if the metrics' port cannot be bound.
        UihlmError: if prometheus-client is not installed.
    """
    listeners: list[Telemetry] = []
    with contextlib.ExitStack() as stack:
        if values["metrics_port"] is not None:
            from uihlm_basestation.observing.metrics import PATH, PrometheusTelemetry, exposed

            metrics = PrometheusTelemetry(engine)
            address = stack.enter_context(exposed(metrics, values["metrics_host"], values["metrics_port"]))
            voice.say(f"metrics on http://{address}{PATH}")
            listeners.append(metrics)
        if LogLevel(values["log_level"]).number <= logging.INFO:
            listeners.append(SessionLog())
        yield Listeners(listeners) if listeners else None


@contextlib.contextmanager
def health_port(values: Values, voice: Voice) -> Iterator[HealthPort | None]:
    """Answer health checks at a port of their own while the block runs, if asked for.

    Raises:
        UnavailableError: if the port cannot be bound.
    """
    if values["health_port"] is None:
        yield None
        return
    port = HealthPort(values["health_host"], values["health_port"])
    try:
        voice.say(f"health on {port.address}")
        yield port
    finally:
        port.close()
