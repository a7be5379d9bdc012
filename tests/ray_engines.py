"""Engines for replicas under Ray: loaded in their own processes, they leave a trace of which process ran what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fakes import FakeEngine, contextual, mixed
from uihlm_basestation.engines.engine import Work

V = 64
LLM = contextual(V, salt=1)
DRAFTER = mixed(LLM, contextual(V, salt=2), 0.4)
# A folder; every process writes its forwards into a file named after itself.
TRACES = "UIHLM_TEST_TRACES"


class TracedEngine(FakeEngine):
    """A fake that notes how many forwards its process has run."""

    def __init__(self) -> None:
        super().__init__(LLM, V)
        self._trace = Path(os.environ[TRACES]) / str(os.getpid())
        self._trace.write_text("0")

    def forward(self, work: Sequence[Work]) -> list[np.ndarray]:
        self._trace.write_text(str(len(self.batches) + 1))
        return super().forward(work)


def load(model: str, settings: object) -> TracedEngine:
    """What a replica loads in the place of a model."""
    return TracedEngine()
