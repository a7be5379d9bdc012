"""An engine whose forwards are told: sessions, positions and seconds of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from uihlm_basestation.engines.engine import Engine, Float32Array, Work
from uihlm_basestation.observing.telemetry import Forward, Telemetry


class _ObservedEngine:
    """The engine, but for `forward`."""

    def __init__(self, engine: Engine, telemetry: Telemetry) -> None:
        self._engine = engine
        self._telemetry = telemetry

    # Whatever else an engine can do is its own affair, and stays within reach.
    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        positions = sum(len(part.new_ids) for part in work)
        started_s = time.perf_counter()
        failed = True
        try:
            rows = self._engine.forward(work)
            failed = False
            return rows
        finally:
            self._telemetry.forward(Forward(len(work), positions, time.perf_counter() - started_s, failed))


def observed_engine(engine: Engine, telemetry: Telemetry) -> Engine:
    """Return the engine with every forward told to `telemetry`."""
    return cast(Engine, _ObservedEngine(engine, telemetry))
