"""A draft tree in a pool of cells (`LlamaPool`): the trunk is sequence 0, and every branch has a sequence of its own.

A node that is the first to follow its parent goes on in the parent's sequence; any other starts a new one, which takes the
cells of all that lead to it. So a node is run once, whatever hangs from it, and a batch holds at most one token a sequence.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uihlm_device.drafters.drafter import check_branches
from uihlm_device.record import Float32Array
from uihlm_models.llama.pool import LlamaPool

_TRUNK = 0


@dataclass(frozen=True, slots=True)
class _Node:
    """A node that has run.

    Attributes:
        sequence: where it and all before it can be read.
        depth: 0 for a root.
    """

    sequence: int
    depth: int


class LlamaBranches:
    """The nodes of one tree after another."""

    def __init__(self, pool: LlamaPool) -> None:
        self._pool = pool
        self._nodes: list[_Node] = []
        # The last node of every sequence in use; sequences are numbered from 1.
        self._tips: dict[int, int] = {}

    def grow(self, trunk: int, ids: Sequence[int], parents: Sequence[int]) -> Float32Array:
        """Run nodes after a trunk of `trunk` positions; see `TreeDrafter.grow`.

        Raises:
            InvalidRequestError: as `TreeDrafter.grow` says.
            ModelError: if llama.cpp fails; the tree must then be settled.
        """
        check_branches(ids, parents, len(self._nodes), self._pool.vocabulary_size)
        new: list[_Node] = []
        for parent in parents:
            depth = 0 if parent < 0 else self._nodes[parent].depth + 1
            sequence = self._sequence(trunk + depth, parent)
            self._tips[sequence] = len(self._nodes) + len(new)
            new.append(_Node(sequence, depth))
        self._nodes += new
        positions = np.array([trunk + node.depth for node in new], np.int32)
        self._pool.decode(ids, positions, [node.sequence for node in new], np.ones(len(new), np.bool_))
        return self._pool.logits()

    def settle(self, trunk: int, path: Sequence[int], kept: Sequence[int] = ()) -> None:
        """Let `path` follow the trunk, keep what `kept` says of the nodes below it, and drop the rest."""
        if path:
            self._pool.share(self._nodes[path[-1]].sequence, _TRUNK, trunk, trunk + len(path))
        nodes = [self._nodes[node] for node in kept]
        # A sequence is one way down: of one that holds a kept node, all that comes after the path is kept.
        tips = {node.sequence: number for number, node in enumerate(nodes)}
        for sequence in self._tips.keys() - tips.keys():
            self._pool.truncate(sequence, 0)
        self._nodes = [_Node(node.sequence, node.depth - len(path)) for node in nodes]
        self._tips = tips

    def _sequence(self, position: int, parent: int) -> int:
        """Return the sequence in which a child of `parent` can run at `position`."""
        before = _TRUNK if parent < 0 else self._nodes[parent].sequence
        if before != _TRUNK and self._tips[before] == parent:
            return before
        free = next(sequence for sequence in itertools.count(1) if sequence not in self._tips)
        self._tips[free] = -1
        self._pool.share(before, free, 0, position)
        return free
