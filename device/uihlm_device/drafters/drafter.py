"""What the decode loop asks of a drafter (the small model), whichever library runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from uihlm_device.record import Float32Array, Record, Wants
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS


class Drafter(Protocol):
    """A small model with a key-value cache for one sequence."""

    @property
    def vocabulary_size(self) -> int:
        """V."""

    @property
    def fingerprint(self) -> bytes:
        """The tokenizer's fingerprint, 32 bytes."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer (EOS and end-of-turn)."""

    @property
    def max_context(self) -> int:
        """Positions the cache holds."""

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = Wants()) -> Record:
        """Cut the cache to its first `keep_len` positions, run `new_ids` after them, return the record of the last one.

        Raises:
            InvalidRequestError: if `new_ids` is empty, `keep_len` exceeds the cache, or the context is full.
        """


@runtime_checkable
class TreeDrafter(Drafter, Protocol):
    """A drafter that can look at several branches at once.

    The nodes of a tree hang from the end of the cache, and are numbered in the order they are run. A forward in between
    drops the tree.
    """

    def grow(self, ids: Sequence[int], parents: Sequence[int]) -> Float32Array:
        """Run nodes beside those of the tree that ran before; each sees the cache and its own ancestors.

        Args:
            ids: of the new nodes, at least one.
            parents: the number of each node's parent, which ran in an earlier call, or −1 for a child of the last cached
                position.

        Returns:
            Raw logits after each new node, `[node, V]`; a view, valid until the next forward.

        Raises:
            InvalidRequestError: no node, more than MAX_DRAFTS of them in a tree, or an id or a parent that there is not.
        """

    def settle(self, path: Sequence[int], kept: Sequence[int] = ()) -> None:
        """End the tree: the nodes of `path`, from a root downwards, become the end of the cache; the rest is dropped.

        Args:
            path: numbers of nodes.
            kept: numbers of all nodes that descend from the last one of `path`, in the order they ran, or none: they are the
                first nodes of the next tree, in that order.
        """


def check_branches(ids: Sequence[int], parents: Sequence[int], before: int, vocabulary_size: int) -> None:
    """Refuse nodes that do not continue a tree of `before` nodes.

    Raises:
        InvalidRequestError: as `TreeDrafter.grow` says.
    """
    if not ids or len(ids) != len(parents) or before + len(ids) > MAX_DRAFTS:
        raise InvalidRequestError(
            f"a tree grows by at least one node, each with a parent, to at most {MAX_DRAFTS}: got {len(ids)} ids and "
            f"{len(parents)} parents beside {before} nodes"
        )
    if not all(-1 <= parent < before for parent in parents):
        raise InvalidRequestError(f"parents {list(parents)} are not all among the {before} nodes that ran, or −1")
    if not all(0 <= token < vocabulary_size for token in ids):
        raise InvalidRequestError(f"an id is outside the vocabulary of {vocabulary_size} tokens")
