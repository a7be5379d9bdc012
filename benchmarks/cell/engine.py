"""An LLM that costs nothing, so that only the base station's own work is timed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_basestation.engines.engine import Engine, Work
from uihlm_proto.fingerprint import fingerprint

_CONTEXTS = 64


class IdleEngine:
    """Answers from a table: the row of an id is always the same (`uihlm_basestation.engines.engine.Engine`)."""

    stop_ids: frozenset[int] = frozenset()
    caches = 1 << 20
    description = "table"

    def __init__(self, vocabulary_size: int, max_context: int) -> None:
        self.vocabulary_size = vocabulary_size
        self.max_context = max_context
        self.fingerprint = fingerprint(f"<{i}>" for i in range(vocabulary_size))
        generator = np.random.default_rng(0)
        self._table = (3 * generator.normal(size=(_CONTEXTS, vocabulary_size))).astype(np.float32)

    def beside(self, session: int, others: Sequence[int]) -> Collection[int]:
        """Return all: nobody is in anybody's way."""
        return others

    def missing(self, part: Work) -> Work | None:
        """Return nothing: there is no cache to lose."""
        return None

    def forward(self, work: Sequence[Work]) -> list[npt.NDArray[np.float32]]:
        """Return the table's rows."""
        return [self._table[[i % _CONTEXTS for i in part.new_ids[len(part.new_ids) - part.rows :]]] for part in work]

    def close_session(self, session: int) -> None:
        """Do nothing."""


class CountedEngine:
    """An engine whose forwards are counted.

    Attributes:
        forwards, parts, positions: so far.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.forwards = self.parts = self.positions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward(self, work: Sequence[Work]) -> list[npt.NDArray[np.float32]]:
        """Count and run."""
        self.forwards += 1
        self.parts += len(work)
        self.positions += sum(len(part.new_ids) for part in work)
        return self._engine.forward(work)
