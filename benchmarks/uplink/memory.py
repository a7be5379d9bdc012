"""Models that run no prefix twice: what a loop that does not wait asks on one link it mostly asked on another.

Times are not theirs to tell: the clock is charged what the models took alone. Chains only; trees run on the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uihlm_basestation.engines.engine import Engine, Float32Array, Work
from uihlm_device.drafters.drafter import Drafter
from uihlm_device.record import Record, Wants

_SESSION = 1_000_000

Prefix = tuple[int, ...]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class RememberedDrafter:
    """A drafter's logits by prefix."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._ids: list[int] = []
        self._held: list[int] = []
        self._known: dict[Prefix, Float32Array] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._drafter, name)

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = Wants()) -> Record:
        """Return the record after `new_ids`; see `Drafter`."""
        self._ids = [*self._ids[:keep_len], *new_ids]
        prefix = tuple(self._ids)
        if prefix not in self._known:
            start = min(_shared(self._held, prefix), len(prefix) - 1)
            self._known[prefix] = self._drafter.forward(start, prefix[start:], wants).logits.copy()
            self._held = list(prefix)
        return Record(self._known[prefix])


class RememberedEngine:
    """An engine's rows by prefix, for one stream at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids: dict[int, list[int]] = {}
        self._held: list[int] = []
        self._known: dict[Prefix, Float32Array] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def missing(self, part: Work) -> Work | None:
        """Return nothing: what is not held runs with the part."""
        return None

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Return the rows of every part; see `Engine.forward`."""
        return [self._part(part) for part in work]

    def close_session(self, session: int) -> None:
        """Forget a session's ids."""
        self._ids.pop(session, None)

    def _part(self, part: Work) -> Float32Array:
        assert part.parents is None and not part.path, "trees run on the engine itself"
        ids = self._ids[part.session] = [*self._ids.get(part.session, ())[: part.keep_len], *part.new_ids]
        wanted = [tuple(ids[: at + 1]) for at in range(len(ids) - part.rows, len(ids))]
        if any(prefix not in self._known for prefix in wanted):
            first = next(len(prefix) for prefix in wanted if prefix not in self._known)
            start = min(_shared(self._held, ids), first - 1)
            rows = len(ids) - first + 1
            logits = self._engine.forward([Work(_SESSION, start, ids[start:], rows)])[0]
            self._known.update((tuple(ids[: first + row]), logits[row].copy()) for row in range(rows))
            self._held = ids
        rows_wanted = [self._known[prefix] for prefix in wanted]
        return np.stack(rows_wanted) if rows_wanted else np.empty((0, self._engine.vocabulary_size), np.float32)
