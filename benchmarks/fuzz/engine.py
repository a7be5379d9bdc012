"""An engine that costs next to nothing: logits from a table, by the last ids; sessions kept as the real engines keep them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from uihlm_basestation.engines.engine import Float32Array, Work
from uihlm_basestation.engines.histories import Histories
from uihlm_proto.fingerprint import fingerprint

VOCABULARY = 64
STOP = 3
# Short, so that streams run into it.
MAX_CONTEXT = 96
_ROWS = 4093


class Table:
    """Logits `[V]` of a context: a row of a fixed table, chosen by the last three ids."""

    def __init__(self, salt: int) -> None:
        """Draw the table."""
        self._rows = (np.random.default_rng(salt).normal(size=(_ROWS, VOCABULARY)) * 2.0).astype(np.float32)

    def after(self, ids: Sequence[int]) -> Float32Array:
        """Return the row that follows these ids."""
        tail = [*ids[-3:]]
        return self._rows[(tail[-1] * 97 + sum(tail) * 31 + len(ids)) % _ROWS]


class TableEngine:
    """Implements `uihlm_basestation.engines.engine.Engine`."""

    vocabulary_size = VOCABULARY
    max_context = MAX_CONTEXT
    stop_ids = frozenset({STOP})
    fingerprint = fingerprint(f"<{i}>" for i in range(VOCABULARY))
    description = "table"
    caches = 1 << 20

    def __init__(self, salt: int = 1) -> None:
        """Start with no session."""
        self._table = Table(salt)
        self._histories = Histories()
        self.open: set[int] = set()

    def beside(self, session: int, others: Sequence[int]) -> Collection[int]:
        """Return all: nobody is in anybody's way."""
        return others

    def missing(self, part: Work) -> Work | None:
        """Return None: no cache is ever lost."""
        return None

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Check every part as a real engine does, and look its rows up."""
        self._histories.check(work, self.max_context, self.vocabulary_size)
        found = []
        for part in work:
            self.open.add(part.session)
            contexts = self._contexts(part)
            rows = [self._table.after(context) for context in contexts[len(contexts) - part.rows :]]
            found.append(np.stack(rows) if rows else np.zeros((0, VOCABULARY), np.float32))
            self._histories.commit(part)
        return found

    def close_session(self, session: int) -> None:
        """Forget a session."""
        self.open.discard(session)
        self._histories.forget(session)

    def _contexts(self, part: Work) -> list[list[int]]:
        kept = self._histories.kept(part)
        if part.parents is None:
            whole = [*kept, *part.new_ids]
            return [whole[: len(kept) + i + 1] for i in range(len(part.new_ids))]
        seen: list[list[int]] = []
        for token, parent in zip(part.new_ids, part.parents, strict=True):
            seen.append([*(kept if parent < 0 else seen[parent]), token])
        return seen
