"""An engine on llama.cpp: a key-value stream for each session, all parts of a forward in one batch.

Sessions that send trees move to a second context on the same weights (engines.llama_trees), which is made with the
first tree; a forward with parts of both kinds is two calls of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, takewhile
from pathlib import Path

import numpy as np

from uihlm_basestation.engines.engine import Float32Array, Work
from uihlm_basestation.engines.llama_trees import TreeCaches
from uihlm_basestation.engines.slotted import DEFAULT_CACHES, DEFAULT_CONTEXT, SlottedEngine, check_caches
from uihlm_models.errors import ModelError
from uihlm_models.kv_memory import KvShape, caches_within
from uihlm_models.llama.kv_type import KvType, steady_kv_type
from uihlm_models.llama.pool import MAX_SEQUENCES, LlamaPool
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings

DEFAULT_BATCH = 512

# Caches of full length that the pool for trees has room for, however many sessions share it.
_POOL_SESSIONS = 4
# Positions of a sequence are rounded up to so many.
_PAGE = 256
# Cells a session takes there beyond its context: a tree's side branches, and what fell since the last clean-up.
_POOL_SLACK = 512


@dataclass(frozen=True, slots=True)
class _Run:
    """One part as it goes into the batch.

    Attributes:
        part: what was asked.
        slot: the session's sequence in llama.cpp.
        start: position of the first id to run; before it the slot's cells stand.
        ids: ids to run: those of an evicted or cut cache, then the new ones.
        rows: where its logits go, `[rows, V]`.
    """

    part: Work
    slot: int
    start: int
    ids: list[int]
    rows: Float32Array


class LlamaEngine(SlottedEngine):
    """A large model in a GGUF file (`uihlm_basestation.engines.engine.Engine`).

    Besides `caches` of streams, as many of sessions that send trees are held while their pool has room. The tokenizer is
    valid until `close`.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_sessions: int = DEFAULT_CACHES,
        max_context: int = DEFAULT_CONTEXT,
        n_batch: int = DEFAULT_BATCH,
        n_threads: int = 0,
        gpu_layers: int = -1,
        kv_type: KvType | None = None,
        kv_bytes: int | None = None,
    ) -> None:
        """Load a model.

        Args:
            path: a GGUF file.
            max_sessions: caches held at once, at least 1; llama.cpp tells MAX_SEQUENCES apart.
            max_context: positions of one session, at most what the model was trained for; 0 takes just that.
            n_batch: most positions in one call of llama.cpp; longer work is cut.
            n_threads: CPU threads; 0 takes the cores this process may use.
            gpu_layers: blocks put on a GPU if there is one; -1 puts all.
            kv_type: how the key-value cache is stored; None is the one of `steady_kv_type`.
            kv_bytes: most memory for caches, those of trees included; fewer are held where `max_sessions` take more.

        Raises:
            ModelError: if the file cannot be loaded, `max_sessions` is below 1, or `kv_bytes` too little for one cache.
        """
        check_caches(max_sessions)
        max_sessions = min(max_sessions, MAX_SEQUENCES)
        if kv_bytes is not None:
            max_sessions = _caches_within(kv_bytes, path, max_sessions, max_context)
        settings = RuntimeSettings(
            n_ctx=max_context,
            n_seq_max=max_sessions,
            n_batch=n_batch,
            n_threads=n_threads,
            gpu_layers=gpu_layers,
            kv_type=kv_type or steady_kv_type(),
        )
        self._runtime = LlamaRuntime(path, settings)
        super().__init__(
            self._runtime.tokenizer,
            vocabulary_size=self._runtime.vocabulary_size,
            stop_ids=self._runtime.tokenizer.stop_ids,
            max_context=self._runtime.n_ctx,
            description=f"{path.stem} ({self._runtime.description}, llama.cpp)",
            caches=max_sessions,
        )
        self._trees: TreeCaches | None = None
        self._pool_settings = replace(settings, n_ctx=_pool_cells(max_sessions, self.max_context))

    @property
    def cached_sessions(self) -> frozenset[int]:
        """The sessions whose cache is in memory."""
        return frozenset(self._slots.sessions + (self._trees.sessions if self._trees is not None else []))

    def beside(self, session: int, others: Sequence[int]) -> Collection[int]:
        """Return the sessions in neighbouring streams; see `Engine.beside`.

        llama.cpp computes streams together only if they stand side by side: every second one of sixteen takes eight times
        as long as one.
        """
        if self._in_trees(session):
            return [other for other in others if self._in_trees(other)]
        place = self._slots.get(session)
        if place is None:  # where it will stand is not known yet
            return [other for other in others if self._slots.get(other) is None and not self._in_trees(other)]
        standing = {self._slots.get(other): other for other in others}
        after = takewhile(standing.__contains__, count(place + 1))
        before = takewhile(standing.__contains__, count(place - 1, -1))
        return [standing[slot] for slot in chain(before, after)]

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Run every part of `work` and return its raw logits, `[rows, V]` each; see `Engine.forward`.

        Every part is checked before any runs. If llama.cpp fails, the sessions keep the ids they had before, and the
        same work can be asked again.

        Raises:
            InvalidRequestError: what `Work.check` refuses, a path the session's last tree does not have, or two parts of
                one session.
            ModelError: if llama.cpp fails.
        """
        if len(work) == 1 and (row := self._step(work[0])) is not None:
            return [row]
        self._histories.check(work, self.max_context, self.vocabulary_size)
        to_trees = [part.parents is not None or self._in_trees(part.session) for part in work]
        streams = [part for part, to_tree in zip(work, to_trees, strict=True) if not to_tree]
        trees = [part for part, to_tree in zip(work, to_trees, strict=True) if to_tree]
        rows: dict[int, Float32Array] = {}
        for start in range(0, len(streams), self.caches):
            rows |= self._run(self._run_streams, streams[start : start + self.caches])
        if trees:
            if self._trees is None:
                self._trees = TreeCaches(LlamaPool(self._runtime, self._pool_settings), self.caches)
            for group in self._trees.groups(trees):
                rows |= self._run(partial(self._run_trees, self._trees), group)
        return [rows[part.session] for part in work]

    def close(self) -> None:
        """Free the native memory; the tokenizer is invalid from here on."""
        if self._trees is not None:
            self._trees.close()
        self._runtime.close()

    def _step(self, part: Work) -> Float32Array | None:
        """Run one id after all that its session has run, and return its row, `[1, V]`; None if that is not what is asked.

        As `forward` does it, in half the time: after a forward, which has thrown it out of the caches, Python is slow.
        """
        session, position = part.session, part.keep_len
        plain = (
            len(part.new_ids) == part.rows == 1 and part.parents is None and not (part.path or part.again or part.more)
        )
        if not plain or self._cached(session) != position or self._in_trees(session) or position >= self.max_context:
            return None
        token = part.new_ids[0]
        if not 0 <= token < self.vocabulary_size or not self._histories.extend(session, position, token):
            return None
        try:
            self._runtime.decode_one(token, position, self._slots.take(session))
            row = self._runtime.logits().copy()
        except ModelError:
            self._histories.cut(session, position)
            self._drop_cache(session)
            raise
        self._slots.cached[session] = position + 1
        self._slots.hold(session, False)
        return row

    def _cached(self, session: int) -> int:
        if self._trees is not None and session in self._trees:
            return self._trees.cached(session)
        return super()._cached(session)

    def _in_trees(self, session: int) -> bool:
        return self._trees is not None and session in self._trees

    def _drop_stream(self, session: int) -> None:
        if session in self._slots:
            self._runtime.truncate(self._slots[session], 0)
            self._slots.release(session)

    def _drop_cache(self, session: int) -> None:
        self._drop_stream(session)
        if self._trees is not None:
            self._trees.drop(session)

    def _run(
        self, run: Callable[[Sequence[Work]], list[Float32Array]], group: Sequence[Work]
    ) -> dict[int, Float32Array]:
        """Run a group together and remember what it leaves; rows by session."""
        try:
            rows = run(group)
        except ModelError:
            # Some cells are in, some are not: only the ids are known to be right.
            for part in group:
                self._drop_cache(part.session)
            raise
        for part in group:
            self._histories.commit(part)
            self._slots.hold(part.session, part.more)
        return {part.session: own for part, own in zip(group, rows, strict=True)}

    def _run_trees(self, trees: TreeCaches, group: Sequence[Work]) -> list[Float32Array]:
        """Run parts in the pool, where those that come with a first tree move."""
        wanted = {part.session for part in group}
        for part in group:
            if part.session in self._slots:
                trees.adopt(part.session, self._slots[part.session], self._slots.cached[part.session], wanted)
                self._drop_stream(part.session)
        return trees.run(group, self._histories)

    def _run_streams(self, group: Sequence[Work]) -> list[Float32Array]:
        """Run at most `max_sessions` parts, each in its session's stream."""
        wanted = {part.session for part in group}
        runs = [self._prepare(part, wanted) for part in group]
        self._decode(sorted(runs, key=lambda run: run.slot))
        for part in group:
            self._slots.cached[part.session] = part.keep_len + len(part.new_ids)
        return [run.rows for run in runs]

    def _prepare(self, part: Work, wanted: set[int]) -> _Run:
        """Give the session a slot, cut it to what stands, and list what must run."""
        if (other := self._slots.crowded_out(part.session, wanted)) is not None:
            self._drop_stream(other)
        slot = self._slots.take(part.session)
        cached = self._slots.cached[part.session]
        start = min(part.keep_len, cached)
        if start < cached:
            self._runtime.truncate(slot, start)
            self._slots.cached[part.session] = start
        ids = [*self._histories.kept(part)[start:], *part.new_ids]
        return _Run(part, slot, start, ids, np.empty((part.rows, self.vocabulary_size), np.float32))

    def _decode(self, runs: Sequence[_Run]) -> None:
        """Run the parts end to end, cut at n_batch, and copy their logits out."""
        # Lists: most batches are a few tokens, which cost less than the making of arrays for them.
        ids = [token for run in runs for token in run.ids]
        # Neighbouring slots stand side by side, which is what llama.cpp can compute together.
        slots = [run.slot for run in runs for _ in run.ids]
        positions = [run.start + i for run in runs for i in range(len(run.ids))]
        wanted = [i >= len(run.ids) - run.part.rows for run in runs for i in range(len(run.ids))]
        targets = [row for run in runs for row in run.rows]
        done = 0
        for start in range(0, len(ids), self._runtime.n_batch):
            cut = slice(start, start + self._runtime.n_batch)
            self._runtime.decode(ids[cut], positions[cut], slots[cut], wanted[cut])
            for row in self._runtime.logits():
                targets[done][:] = row
                done += 1


def _pool_cells(sessions: int, max_context: int) -> int:
    """Return the size of the pool for trees."""
    return min(sessions, _POOL_SESSIONS) * (max_context + _POOL_SLACK)


def _caches_within(budget_bytes: int, path: Path, max_sessions: int, max_context: int) -> int:
    """Return how many caches fit in a budget, with the pool for trees that many bring; ModelError if not one does."""
    shape = KvShape.of(path)
    context = min(max_context or shape.trained, shape.trained)
    # llama.cpp deals out cells in pages.
    context = -(-context // _PAGE) * _PAGE
    fits = [
        count
        for count in range(1, max_sessions + 1)
        if (count * context + _pool_cells(count, context)) * shape.position_bytes <= budget_bytes
    ]
    least = (context + _pool_cells(1, context)) * shape.position_bytes
    return max(fits, default=0) or caches_within(budget_bytes, least)
