"""An engine for one stream at a time that does not walk the same way twice.

Answers to one prompt under several policies ask the LLM about the same prefixes. This engine keeps one cache and the rows of
every position of the way it holds, and runs the LLM only from where a new request leaves that way. Costs are reported by the
batcher as if everything had run: positions are those asked for.

A request that leaves the way late is run in a shorter batch than it would be alone; whether a row's floats depend on its
batch is the wrapped engine's property (with fused attention and a BF16 cache they were equal bit for bit:
docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from uihlm_basestation.engines.engine import Engine, Float32Array, Work
from uihlm_proto.errors import InvalidRequestError

_SESSION = 0


class SharedPathEngine:
    """Wraps an engine (`uihlm_basestation.engines.engine.Engine`); chains only.

    Attributes:
        vocabulary_size, fingerprint, stop_ids, max_context, description, caches: the engine's.
        asked, ran: positions asked for, and those that the LLM ran.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.vocabulary_size = engine.vocabulary_size
        self.fingerprint = engine.fingerprint
        self.stop_ids = engine.stop_ids
        self.max_context = engine.max_context
        self.description = engine.description
        self.caches = engine.caches
        self.asked = self.ran = 0
        self._ids: dict[int, list[int]] = {}
        # What the one cache holds, and the rows known along it: position of an id → logits after it.
        self._path: list[int] = []
        self._rows: dict[int, Float32Array] = {}

    def missing(self, part: Work) -> Work | None:
        """Return nothing: what the way does not hold is run with the part."""
        return None

    def beside(self, session: int, others: Sequence[int]) -> Collection[int]:
        """Return nobody: parts run one after another on the one cache."""
        return ()

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Return the rows of every part, run or remembered; see `Engine.forward`.

        Raises:
            InvalidRequestError: as the engine does, and for a tree.
        """
        if len({part.session for part in work}) < len(work):
            raise InvalidRequestError("two parts of one forward name one session")
        for part in work:
            if part.parents is not None or part.path:
                raise InvalidRequestError("this engine shares one way between answers: it judges chains, no trees")
            part.check(len(self._ids.get(part.session, ())), self.max_context, self.vocabulary_size)
        return [self._part(part) for part in work]

    def close_session(self, session: int) -> None:
        """Forget a session's ids; the way stays, for the next session that goes along it."""
        self._ids.pop(session, None)

    def _part(self, part: Work) -> Float32Array:
        kept = self._ids.get(part.session, [])[: part.keep_len]
        target = [*kept, *part.new_ids]
        wanted = range(len(target) - part.rows, len(target))
        shared = next(
            (at for at, (a, b) in enumerate(zip(self._path, target, strict=False)) if a != b),
            min(len(self._path), len(target)),
        )
        # From the first position that is not on the way, or whose row was never made.
        start = next((at for at in wanted if at >= shared or at not in self._rows), shared)
        start = min(start, shared)
        self.asked += len(part.new_ids)
        if start < len(target):
            # Every row of an answer is kept, of a prompt no more than asked for.
            self._run(start, target[start:], len(target) - start if start else max(1, part.rows))
        self._ids[part.session] = target
        if not part.rows:
            return np.empty((0, self.vocabulary_size), np.float32)
        return np.stack([self._rows[at] for at in wanted])

    def _run(self, start: int, ids: Sequence[int], rows: int) -> None:
        """Run ids after the first `start` of the way and keep the last rows."""
        self.ran += len(ids)
        self._rows = {at: row for at, row in self._rows.items() if at < start}
        del self._path[start:]
        logits = self._engine.forward([Work(_SESSION, start, ids, rows)])[0]
        self._path += ids
        for offset in range(rows):
            self._rows[len(self._path) - rows + offset] = logits[offset]
