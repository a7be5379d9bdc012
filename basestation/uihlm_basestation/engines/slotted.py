"""What the engines of this package have in common: facts of a model, the ids of every session, and caches for a few."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.histories import Histories
from uihlm_basestation.engines.slots import Slots
from uihlm_models.errors import ModelError
from uihlm_models.tokenizer import Tokenizer
from uihlm_proto.fingerprint import fingerprint

# Unless told otherwise: caches held at once, and positions of a session.
DEFAULT_CACHES = 4
DEFAULT_CONTEXT = 2048


def check_caches(count: int) -> None:
    """Raise ModelError if an engine is to hold no cache at all."""
    if count < 1:
        raise ModelError(f"an engine needs room for at least 1 session's cache, got {count}")


class SlottedEngine(ABC):
    """An engine in which any number of sessions may be open, and a few have a cache.

    The one not used for longest makes room, and its session's ids run again when it is next asked for.

    Attributes:
        tokenizer: the model's.
        vocabulary_size: V.
        fingerprint: the tokenizer's fingerprint, 32 bytes.
        stop_ids: ids that end an answer.
        max_context: positions one session may hold.
        description: model, weight type and library in a few words, for logs.
        caches: sessions whose caches are held at once.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocabulary_size: int,
        stop_ids: frozenset[int],
        max_context: int,
        description: str,
        caches: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self.fingerprint = fingerprint(tokenizer.pieces())
        self.stop_ids = stop_ids
        self.max_context = max_context
        self.description = description
        self.caches = caches
        self._histories = Histories()
        self._slots = Slots(caches)

    @property
    def cached_sessions(self) -> frozenset[int]:
        """The sessions whose cache is in memory."""
        return frozenset(self._slots.sessions)

    def missing(self, part: Work) -> Work | None:
        """Return what must run again before a part; see `Engine.missing`."""
        return self._histories.missing(part, self._cached(part.session))

    def beside(self, session: int, others: Sequence[int]) -> Collection[int]:
        """Return all: rows of one cache are computed together, wherever they stand; see `Engine.beside`."""
        return others

    def close_session(self, session: int) -> None:
        """Forget a session; unknown ones are ignored."""
        self._histories.forget(session)
        self._drop_cache(session)

    def _cached(self, session: int) -> int:
        """Return how many positions a session's cache holds."""
        return self._slots.cached.get(session, 0)

    @abstractmethod
    def _drop_cache(self, session: int) -> None:
        """Let a session's cache go, if it has one; its ids stay."""
