"""Draft trees on llama.cpp: one forward runs every branch, and the path that stands stays in the cache.

A tree's node belongs to the sequences of all leaves below it (`LlamaPool`). A session comes here with its first tree, its
cells copied from its own stream byte for byte, and stays: streams cannot share cells.

Cells fill like a log. A position's logits are then the same floats as in a stream: sums run over cells in the order of
cells, and with 4-bit weights another order moves probabilities by some hundredths. So a node that falls leaves no hole for
another to fill: it goes to a sequence nobody reads. When the log is long, what stands is written anew without those.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from uihlm_basestation.engines.engine import Float32Array, Work
from uihlm_basestation.engines.histories import Histories
from uihlm_basestation.engines.slots import Slots
from uihlm_basestation.engines.trees import branches, depths
from uihlm_models.llama.pool import MAX_SEQUENCES, LlamaPool

# Each slot takes a sequence from the leaves.
MAX_SLOTS = 64

# Fallen cells that are worth a copy of those that stand: all of them are looked at by every forward.
_MAX_FALLEN = 256


@dataclass(frozen=True, slots=True)
class _Pending:
    """A tree that has run and awaits its verdict.

    Attributes:
        start: position of its roots.
        leaves: a sequence for each leaf.
        branches: the nodes of each, from its root to its leaf.
    """

    start: int
    leaves: list[int]
    branches: list[list[int]]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What goes to llama.cpp, a token an element."""

    ids: list[int]
    positions: list[int]
    sequences: list[Sequence[int]]
    wanted: list[bool]


class TreeCaches:
    """The sessions that send trees, in one pool of cells."""

    def __init__(self, pool: LlamaPool, max_sessions: int) -> None:
        """Keep the caches of at most `max_sessions` sessions, MAX_SLOTS at most, in a pool made for nothing else."""
        self._pool = pool
        self._slots = Slots(min(max_sessions, MAX_SLOTS))
        self._fallen_sequence = self._slots.count
        self._leaves = list(range(self._slots.count + 1, MAX_SEQUENCES))
        self._leaf_count = len(self._leaves)
        self._pending: dict[int, _Pending] = {}  # by session, in the order of their forwards
        self._end = 0  # of the log
        self._fallen = 0  # cells in it that nobody reads

    def __contains__(self, session: object) -> bool:
        """Whether the session's cache is here."""
        return session in self._slots

    @property
    def sessions(self) -> list[int]:
        """Those whose cache is here."""
        return self._slots.sessions

    def cached(self, session: int) -> int:
        """Return the positions of a session's cache here, those of a tree left out."""
        return self._slots.cached[session]

    def adopt(self, session: int, stream: int, length: int, wanted: Collection[int]) -> None:
        """Copy the `length` cached positions of a session from its stream; sessions in `wanted` keep their place.

        Where llama.cpp cannot copy them, the session starts here without a cache, and its ids run again.
        """
        slot = self._take(session, wanted)
        self._make_room(length, wanted)
        if length and self._pool.take_over(stream, slot):
            self._slots.cached[session] = length
            self._end += length

    def drop(self, session: int) -> None:
        """Forget a session's cache; unknown ones are ignored."""
        if session in self._slots:
            self._settle(session, ())
            self._cut(session, 0)
            self._slots.release(session)

    def close(self) -> None:
        """Free the native memory."""
        self._pool.close()

    def groups(self, work: Sequence[Work]) -> list[list[Work]]:
        """Cut `work` into forwards that fit: by slots, by leaves and by cells."""
        found: list[list[Work]] = []
        leaves = cells = 0
        for part in work:
            own_leaves = len(branches(part.parents)) if part.parents is not None else 0
            own_cells = part.keep_len + len(part.new_ids)
            full = leaves + own_leaves > self._leaf_count or cells + own_cells > self._pool.cells
            if not found or full or len(found[-1]) == self._slots.count:
                found.append([])
                leaves = cells = 0
            found[-1].append(part)
            leaves += own_leaves
            cells += own_cells
        return found

    def run(self, group: Sequence[Work], histories: Histories) -> list[Float32Array]:
        """Run parts that fit together (`groups`) and return the logits of each, `[rows, V]`.

        Raises:
            ModelError: if llama.cpp fails; the caches of these sessions must then be dropped.
        """
        wanted = {part.session for part in group}
        for part in group:
            self._take(part.session, wanted)
            self._settle(part.session, part.path)
            self._cut(part.session, part.keep_len)
        cells = sum(part.keep_len - self._slots.cached[part.session] + len(part.new_ids) for part in group)
        self._make_room(cells, wanted)
        self._end += cells
        batch = _Batch([], [], [], [])
        rows = []
        for part in group:
            self._add(part, histories.kept(part), batch)
            rows.append(np.empty((part.rows, self._pool.vocabulary_size), np.float32))
        self._decode(batch, [row for part_rows in rows for row in part_rows])
        for part in group:
            self._slots.hold(part.session, part.more)
        return rows

    def _add(self, part: Work, kept: Sequence[int], batch: _Batch) -> None:
        """Add a part to the batch, and enter it as held."""
        session, slot = part.session, self._slots[part.session]
        start, keep_len = self._slots.cached[session], part.keep_len
        own: list[Sequence[int]] = [(slot,)] * len(part.new_ids)
        places: Sequence[int] = range(len(part.new_ids))
        again: Sequence[int] = (slot,)
        if part.parents is not None:
            places = depths(part.parents)
            paths = branches(part.parents)
            leaves = self._take_leaves(len(paths))
            members: list[list[int]] = [[] for _ in part.new_ids]
            for leaf, path in zip(leaves, paths, strict=True):
                self._pool.share(slot, leaf, 0)
                for node in path:
                    members[node].append(leaf)
            own, again = [*members], (slot, *leaves)
            self._pending[session] = _Pending(keep_len, leaves, paths)
        batch.ids.extend([*kept[start:], *part.new_ids])
        batch.positions.extend([*range(start, keep_len), *(keep_len + place for place in places)])
        batch.sequences.extend([*[again] * (keep_len - start), *own])
        quiet = keep_len - start + len(part.new_ids) - part.rows
        batch.wanted.extend([False] * quiet + [True] * part.rows)
        self._slots.cached[session] = keep_len + (len(part.new_ids) if part.parents is None else 0)

    def _decode(self, batch: _Batch, targets: Sequence[Float32Array]) -> None:
        """Run a batch, cut at n_batch, and copy its logits out."""
        positions, wanted = np.array(batch.positions, np.int32), np.array(batch.wanted, np.bool_)
        done = 0
        for start in range(0, len(batch.ids), self._pool.n_batch):
            cut = slice(start, start + self._pool.n_batch)
            self._pool.decode_shared(batch.ids[cut], positions[cut], batch.sequences[cut], wanted[cut])
            for row in self._pool.logits():
                targets[done][:] = row
                done += 1

    def _settle(self, session: int, path: Sequence[int]) -> None:
        """Let `path` of a session's tree stand and the rest of the tree fall; nothing if no tree of it is here."""
        pending = self._pending.pop(session, None)
        if pending is None:
            return
        if path:
            leaf = next(n for n, branch in enumerate(pending.branches) if branch[: len(path)] == list(path))
            stop = pending.start + len(path)
            self._pool.share(pending.leaves[leaf], self._slots[session], pending.start, stop)
            self._slots.cached[session] = stop
        seen = set(path)
        for sequence, branch in zip(pending.leaves, pending.branches, strict=True):
            own = next((n for n, node in enumerate(branch) if node not in seen), len(branch))
            self._discard(sequence, pending.start + own, pending.start + len(branch))
            self._pool.truncate(sequence, 0)
            seen.update(branch)
        self._leaves.extend(pending.leaves)

    def _cut(self, session: int, keep_len: int) -> None:
        cached = self._slots.cached[session]
        if keep_len < cached:
            self._discard(self._slots[session], keep_len, cached)
            self._pool.truncate(self._slots[session], keep_len)
            self._slots.cached[session] = keep_len

    def _discard(self, sequence: int, start: int, stop: int) -> None:
        """Hold the cells of a sequence's positions start … stop − 1, which it is about to leave, as fallen."""
        if start < stop:
            self._pool.share(sequence, self._fallen_sequence, start, stop)
            self._fallen += stop - start

    def _take(self, session: int, wanted: Collection[int]) -> int:
        if (other := self._slots.crowded_out(session, wanted)) is not None:
            self.drop(other)
        return self._slots.take(session)

    def _take_leaves(self, count: int) -> list[int]:
        """Return sequences for a tree's leaves; the oldest trees of others fall if there are too few."""
        while len(self._leaves) < count:
            self._settle(next(iter(self._pending)), ())
        taken, self._leaves = self._leaves[:count], self._leaves[count:]
        return taken

    def _make_room(self, cells: int, wanted: Collection[int]) -> None:
        """See that `cells` more fit in the log; write it anew without its fallen cells if they are many or it is full."""
        full = self._end + cells > self._pool.cells
        # A tree that awaits its verdict would be lost: with one here, only want of room is a reason.
        if not full and (self._fallen <= _MAX_FALLEN or self._pending):
            return
        for session in list(self._pending):
            self._settle(session, ())
        for session in self._slots.idle(wanted):
            if sum(self._slots.cached.values()) + cells <= self._pool.cells:
                break
            self.drop(session)
        states = {session: self._pool.state(self._slots[session]) for session in self.sessions}
        self._pool.clear()
        for session, state in states.items():
            if self._slots.cached[session]:
                self._pool.load(self._slots[session], state)
        self._end, self._fallen = sum(self._slots.cached.values()), 0
