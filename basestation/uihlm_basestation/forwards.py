"""The engine's side of the batcher: a batch becomes rows, and what that took. Runs in the engine's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from uihlm_basestation.counters import EnergyCounters
from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.parts import Part

log = logging.getLogger(__name__)

Rows = list[npt.NDArray[np.float32]]
T = TypeVar("T")


@dataclass(slots=True)
class Outcome:
    """What came of a batch.

    Attributes:
        started_s: when its forward began, by `time.perf_counter`.
        rows: raw logits, `[rows, V]` a part, or the error that took their place.
        took_s: seconds of its forwards, without what was drawn between them.
        further: forwards of one position each that its one request went on with.
        spent_j: joules that the counters read meanwhile; None without counters.
    """

    started_s: float
    rows: Rows | Exception
    took_s: float = 0.0
    further: int = 0
    spent_j: float | None = None


class Forwards:
    """Runs batches on an engine."""

    def __init__(self, engine: Engine, counters: EnergyCounters | None) -> None:
        self._engine = engine
        self._counters = counters

    def run(self, batch: Sequence[Part], waiting: Callable[[], bool]) -> Outcome:
        """Run a batch, and what its one request goes on with while nobody is `waiting` for the engine.

        A round trip to the event loop between two forwards costs a session that is alone more than all else beside them.
        """
        outcome = Outcome(time.perf_counter(), [])
        spent = self._count(lambda counters: counters.begin())
        try:
            outcome.rows = rows = self._forward([part.work for part in batch], outcome)
            first = batch[0]
            if len(batch) == 1 and first.last and (go_on := first.waiting.go_on) is not None:
                # Who has left goes on with nothing.
                while not waiting() and not first.waiting.done.done() and (work := go_on(rows[0])) is not None:
                    outcome.rows = rows = self._forward([work], outcome)
                    outcome.further += 1
        except Exception as error:
            outcome.rows = error
        # Of a forward that failed too: a window stays open until it is ended.
        outcome.spent_j = None if spent is None else self._count(lambda _: spent())
        return outcome

    def _forward(self, work: list[Work], outcome: Outcome) -> Rows:
        started_s = time.perf_counter()
        try:
            return self._engine.forward(work)
        finally:
            outcome.took_s += time.perf_counter() - started_s

    def _count(self, read: Callable[[EnergyCounters], T]) -> T | None:
        """Read the energy counters; where they fail, say so and measure no more: the answers go on."""
        if self._counters is None:
            return None
        try:
            return read(self._counters)
        except Exception:
            log.exception("the energy counters cannot be read: verdicts tell no joules from now on")
            self._counters = None
            return None
