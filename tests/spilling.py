"""A fake engine with few caches: what does not fit is forgotten and must run again, as in the real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from fakes import FakeEngine, Logits
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.histories import Histories
from uihlm_basestation.engines.slots import Slots

PATIENCE_S = 10.0


class SpillingEngine(FakeEngine):
    """Holds `caches` caches, and while its gate is shut runs nothing.

    Attributes:
        forwards: of each forward, the positions that every session really ran, those of a lost cache included.
        spilled: caches that made room.
        pause_s: what each forward takes at least.
    """

    def __init__(self, logits: Logits, vocabulary_size: int, caches: int) -> None:
        super().__init__(logits, vocabulary_size)
        self.caches = caches
        self.forwards: list[dict[int, int]] = []
        self.spilled = 0
        self.pause_s = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._histories = Histories()
        self._slots = Slots(caches)

    def missing(self, part: Work) -> Work | None:
        return self._histories.missing(part, self._slots.cached.get(part.session, 0))

    def forward(self, work: Sequence[Work]) -> list[np.ndarray]:
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        time.sleep(self.pause_s)
        assert len(work) <= self.caches, "more sessions than caches in one forward"
        self._histories.check(work, self.max_context, self.vocabulary_size)
        wanted = {part.session for part in work}
        ran = {}
        for part in work:
            if (other := self._slots.crowded_out(part.session, wanted)) is not None:
                self._slots.release(other)
                self.spilled += 1
            self._slots.take(part.session)
            start = min(part.keep_len, self._slots.cached[part.session])
            ran[part.session] = part.keep_len - start - len(part.path) + len(part.new_ids)
            self._slots.cached[part.session] = part.keep_len + (len(part.new_ids) if part.parents is None else 0)
            self._slots.hold(part.session, part.more)
        # The ids of what runs again stand already: the fake's own memory is of ids.
        rows = iter(super().forward([part for part in work if not part.again]))
        for part in work:
            self._histories.commit(part)
        self.forwards.append(ran)
        return [np.zeros((0, self.vocabulary_size), np.float32) if part.again else next(rows) for part in work]

    def close_session(self, session: int) -> None:
        super().close_session(session)
        self._histories.forget(session)
        if session in self._slots:
            self._slots.release(session)

    @property
    def cached_sessions(self) -> set[int]:
        return set(self._slots.sessions)
