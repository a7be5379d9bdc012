"""The pairs of models that a page's commands run on: fakes below everything, or the real weights."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_counters import FakeMachine, install_zeus
from fake_pair import STOP, V, endless, installed
from fakes import FakeDrafter

FORWARD_S = 0.004
# Makes one more engine, for a base station of the test's own.
Engines = Callable[[], Any]


@contextlib.contextmanager
def fake_pair() -> Iterator[Engines]:
    """Fake weights below everything, benchmarks included; `serve` ends once it is ready."""
    from uihlm_basestation.engines import loading
    from uihlm_device.drafters import loading as drafters
    from uihlm_models import sources

    with pytest.MonkeyPatch.context() as patch:
        weights = installed(patch, Path.cwd())
        weights.speaks = endless
        # One drafter that records whatever it is asked for.
        weights.for_policy = lambda rule: FakeDrafter(endless(1), V, [STOP])
        patch.setattr(loading, "load_engine", paced(weights.engine))
        _ends_when_ready(patch)
        # Benchmarks import these by name, once they are named by a page: after this.
        patch.setattr(sources, "resolve", weights.resolve)
        patch.setattr(drafters, "Drafters", weights.drafters)
        from uihlm_cli.station import serve as serve_command

        patch.setattr(serve_command, "resolve", weights.resolve)
        patch.setattr(serve_command, "load_engine", loading.load_engine)
        yield weights.engine


@contextlib.contextmanager
def bundled_pair() -> Iterator[Engines]:
    """The real weights."""
    from uihlm_basestation.engines.loading import load_engine
    from uihlm_models.presets import Role
    from uihlm_models.sources import resolve

    with pytest.MonkeyPatch.context() as patch:
        _ends_when_ready(patch)
        yield lambda: load_engine(resolve("bundled", Role.TARGET))


def paced(engines: Engines) -> Engines:
    """Engines whose forwards take a time, as a real one's do: answers that are written at once must meet (`plan --measure`)."""

    def made(*unused: object) -> Any:
        engine = engines()
        forward = engine.forward

        def later(work: object) -> Any:
            time.sleep(FORWARD_S)
            return forward(work)

        engine.forward = later
        return engine

    return made


def _ends_when_ready(patch: pytest.MonkeyPatch) -> None:
    """Give the machine counters, which few have and a container has none of; stop what serves once it is ready."""
    from uihlm_cli.station import serve as serve_command
    from uihlm_device.endpoint import server as endpoint

    install_zeus(patch, FakeMachine(gpus=(2.0,)))
    patch.setattr(serve_command, "serve", until_ready(serve_command.serve))
    patch.setattr(endpoint, "serve", endpoint_until_ready(endpoint.serve))


def until_ready(serve: Callable[..., Any]) -> Callable[..., Any]:
    """The same server, which is told to stop as soon as it is ready."""

    def served(*arguments: Any, **named: Any) -> Any:
        *others, on_ready, telemetry, reflection = arguments

        def ready(address: object) -> None:
            on_ready(address)
            os.kill(os.getpid(), signal.SIGTERM)

        return serve(*others, ready, telemetry, reflection, **named)

    return served


def endpoint_until_ready(serve: Callable[..., None]) -> Callable[..., None]:
    """The device's endpoint, likewise."""

    def served(completer: Any, listening: Any, on_ready: Callable[[str], None]) -> None:
        def ready(address: str) -> None:
            on_ready(address)
            os.kill(os.getpid(), signal.SIGTERM)

        serve(completer, listening, ready)

    # What a test calls that wants it to stay.
    served.stays = serve  # type: ignore[attr-defined]
    return served
