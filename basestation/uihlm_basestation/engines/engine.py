"""What the base station asks of an engine (the large model), whichever library runs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from uihlm_basestation.engines.trees import check_parents, depths, trunk_length
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Work:
    """One session's part of a forward.

    Attributes:
        session: whose cache.
        keep_len: keep that many positions of the session's sequence; what is beyond is rolled back.
        new_ids: ids to run after them, at least one.
        rows: how many logit rows to return, counted from the last of `new_ids`; 0 … len(new_ids).
        parents: makes `new_ids` a tree (engines.trees): one entry each, a node's row is the LLM's word after the
            path down to it. None is a chain. The session then holds `keep_len` positions and the tree beside them, until
            its next work says which path stands.
        path: the nodes of the session's last tree that stand, from a root down; they take the positions from that
            tree's `keep_len` on without being run again, and `keep_len` of this work counts them.
        again: `new_ids` are those the session holds after `keep_len`: they are run for a cache that was lost, and its ids
            and tree stay what they are.
        more: another part of the same request follows soon: of all caches, this one is not to make room.
    """

    session: int
    keep_len: int
    new_ids: Sequence[int]
    rows: int
    parents: Sequence[int] | None = None
    path: Sequence[int] = ()
    again: bool = False
    more: bool = False

    @property
    def length(self) -> int:
        """Positions that the new ids reach beyond `keep_len`: their number, or the depth of the tree."""
        return len(self.new_ids) if self.parents is None else max(depths(self.parents)) + 1

    def check(self, held: int, max_context: int, vocabulary_size: int) -> None:
        """Refuse what no engine can run, given the positions its session holds, those of `path` included.

        Raises:
            InvalidRequestError: no new ids, more kept than held, more rows than new ids, parents that are no tree, more
                than MAX_DRAFTS nodes beside the trunk, a full context, or an id out of range.
        """
        if len(self.new_ids) == 0:
            raise InvalidRequestError(f"session {self.session} asks for a forward without new ids")
        if not 0 <= self.keep_len <= held:
            raise InvalidRequestError(f"session {self.session} holds {held} positions, cannot keep {self.keep_len}")
        if not 0 <= self.rows <= len(self.new_ids):
            raise InvalidRequestError(
                f"session {self.session} wants {self.rows} rows of logits for {len(self.new_ids)} new ids"
            )
        if self.parents is not None:
            check_parents(self.parents, len(self.new_ids))
            beside = len(self.parents) - trunk_length(self.parents)
            if beside > MAX_DRAFTS:
                raise InvalidRequestError(
                    f"session {self.session} sent a tree of {beside} nodes beside its trunk: at most {MAX_DRAFTS} are run"
                )
        if self.keep_len + self.length > max_context:
            raise InvalidRequestError(
                f"session {self.session} asks for {self.keep_len} + {self.length} positions, the context holds "
                f"{max_context}"
            )
        if min(self.new_ids) < 0 or max(self.new_ids) >= vocabulary_size:
            raise InvalidRequestError(
                f"session {self.session} sent an id outside the vocabulary of {vocabulary_size} tokens"
            )


class Engine(Protocol):
    """A large model with a key-value cache for each session.

    An engine keeps every session's ids, so that it may drop a cache to make room and run it again when it is next needed
    (`uihlm_basestation.engines.histories`). Calls come from one thread.
    """

    @property
    def vocabulary_size(self) -> int:
        """V."""

    @property
    def fingerprint(self) -> bytes:
        """The tokenizer's fingerprint, 32 bytes."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""

    @property
    def max_context(self) -> int:
        """Positions one session may hold."""

    @property
    def description(self) -> str:
        """Model, weight type and library in a few words, for logs."""

    @property
    def caches(self) -> int:
        """Sessions whose caches fit in memory together."""

    def missing(self, part: Work) -> Work | None:
        """Return what must run `again` before a part because its session's cache made room for others', if anything.

        Cheap: asked before every forward, while none runs.
        """

    def beside(self, session: int, others: Sequence[int]) -> Collection[int]:
        """Return those of `others` whose parts one forward computes together with that of `session`.

        The rest would be computed one after another all the same, so they go in a forward of their own, and nobody waits
        for the logits of somebody else. Cheap: asked before every forward, while none runs.
        """

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Run every part of `work`, at most one a session, and return its raw logits, `[rows, V]` each.

        The arrays belong to the caller.

        Raises:
            InvalidRequestError: what `Work.check` refuses, a path the session's last tree does not have, or two parts of
                one session; nothing has run then, and every session is as it was.
        """

    def close_session(self, session: int) -> None:
        """Forget a session; unknown ones are ignored."""
