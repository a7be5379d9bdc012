"""An engine on llama.cpp: one context, one key-value stream for each session, all parts of a forward in one batch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uihlm_basestation.engine import Float32Array, Work
from uihlm_models.errors import ModelError
from uihlm_models.llama_runtime import KvType, LlamaRuntime, RuntimeSettings
from uihlm_models.tokenizer import LlamaTokenizer
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.fingerprint import fingerprint

DEFAULT_MAX_SESSIONS = 4
DEFAULT_MAX_CONTEXT = 2048
DEFAULT_BATCH = 512


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


class LlamaEngine:
    """A large model in a GGUF file (`uihlm_basestation.engine.Engine`).

    Any number of sessions may be open; `max_sessions` caches are kept. The one not used for longest makes room, and its
    session's ids run again when it is next asked for.

    Attributes:
        tokenizer: the model's; valid until `close`.
        vocabulary_size: V.
        fingerprint: the tokenizer's fingerprint, 32 bytes.
        stop_ids: ids that end an answer.
        max_context: positions one session may hold.
        description: model, weight type and library in a few words, for logs.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_context: int = DEFAULT_MAX_CONTEXT,
        n_batch: int = DEFAULT_BATCH,
        n_threads: int = 0,
        gpu_layers: int = -1,
        kv_type: KvType = KvType.BF16,
    ) -> None:
        """Load a model.

        Args:
            path: a GGUF file.
            max_sessions: caches held at once, at least 1.
            max_context: positions of one session, at most what the model was trained for; 0 takes just that.
            n_batch: most positions in one call of llama.cpp; longer work is cut.
            n_threads: CPU threads; 0 takes the cores this process may use.
            gpu_layers: blocks put on a GPU if there is one; -1 puts all.
            kv_type: how the key-value cache is stored.

        Raises:
            ModelError: if the file cannot be loaded or `max_sessions` is below 1.
        """
        if max_sessions < 1:
            raise ModelError(f"an engine needs room for at least 1 session's cache, got {max_sessions}")
        settings = RuntimeSettings(
            n_ctx=max_context,
            n_seq_max=max_sessions,
            n_batch=n_batch,
            n_threads=n_threads,
            gpu_layers=gpu_layers,
            kv_type=kv_type,
        )
        self._runtime = LlamaRuntime(path, settings)
        self.tokenizer: LlamaTokenizer = self._runtime.tokenizer
        self.vocabulary_size = self._runtime.vocabulary_size
        self.fingerprint = fingerprint(self.tokenizer.pieces())
        self.stop_ids = self.tokenizer.stop_ids
        self.max_context = self._runtime.n_ctx
        self.description = f"{path.stem} ({self._runtime.description}, llama.cpp)"
        self._max_sessions = max_sessions
        self._ids: dict[int, list[int]] = {}
        self._slots: OrderedDict[int, int] = OrderedDict()  # session → slot; the one used last stands last
        self._cached: dict[int, int] = {}  # session → positions in its slot
        self._free_slots = list(range(max_sessions))

    @property
    def cached_sessions(self) -> frozenset[int]:
        """The sessions whose cache is in memory."""
        return frozenset(self._slots)

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Run every part of `work` and return its raw logits, `[rows, V]` each; see `Engine.forward`.

        Every part is checked before any runs. If llama.cpp fails, the sessions keep the ids they had before, and the
        same work can be asked again.

        Raises:
            InvalidRequestError: if a part has no new ids or ids out of range, keeps more than the session has, wants
                more rows than it has new ids, or exceeds the context; or if two parts name one session.
            ModelError: if llama.cpp fails.
        """
        sessions = {part.session for part in work}
        if len(sessions) < len(work):
            raise InvalidRequestError(f"{len(work)} parts name only {len(sessions)} sessions: one part each")
        for part in work:
            part.check(len(self._ids.get(part.session, ())), self.max_context, self.vocabulary_size)
        rows: list[Float32Array] = []
        for start in range(0, len(work), self._max_sessions):
            rows.extend(self._run(work[start : start + self._max_sessions]))
        return rows

    def close_session(self, session: int) -> None:
        """Forget a session; unknown ones are ignored."""
        self._ids.pop(session, None)
        if session in self._slots:
            self._drop_cache(session)

    def close(self) -> None:
        """Free the native memory; the tokenizer is invalid from here on."""
        self._runtime.close()

    def _run(self, group: Sequence[Work]) -> list[Float32Array]:
        """Run at most `max_sessions` parts together."""
        wanted = {part.session for part in group}
        runs = [self._prepare(part, wanted) for part in group]
        try:
            self._decode(sorted(runs, key=lambda run: run.slot))
        except ModelError:
            # Some cells are in, some are not: only the ids are known to be right.
            for run in runs:
                self._drop_cache(run.part.session)
            raise
        for run in runs:
            part = run.part
            self._ids[part.session] = [*self._ids.get(part.session, ())[: part.keep_len], *part.new_ids]
            self._cached[part.session] = part.keep_len + len(part.new_ids)
        return [run.rows for run in runs]

    def _prepare(self, part: Work, wanted: set[int]) -> _Run:
        """Give the session a slot, cut it to what stands, and list what must run."""
        session = part.session
        if session not in self._slots:
            if not self._free_slots:
                self._drop_cache(next(other for other in self._slots if other not in wanted))
            self._slots[session] = self._free_slots.pop(0)
            self._cached[session] = 0
        self._slots.move_to_end(session)
        slot = self._slots[session]
        start = min(part.keep_len, self._cached[session])
        if start < self._cached[session]:
            self._runtime.truncate(slot, start)
            self._cached[session] = start
        ids = [*self._ids.get(session, ())[start : part.keep_len], *part.new_ids]
        return _Run(part, slot, start, ids, np.empty((part.rows, self.vocabulary_size), np.float32))

    def _decode(self, runs: Sequence[_Run]) -> None:
        """Run the parts end to end, cut at n_batch, and copy their logits out."""
        ids = [token for run in runs for token in run.ids]
        # Neighbouring slots stand side by side, which is what llama.cpp can compute together.
        slots = np.concatenate([np.full(len(run.ids), run.slot, np.int32) for run in runs])
        positions = np.concatenate([np.arange(run.start, run.start + len(run.ids), dtype=np.int32) for run in runs])
        wanted = np.concatenate([np.arange(len(run.ids)) >= len(run.ids) - run.part.rows for run in runs])
        targets = [row for run in runs for row in run.rows]
        done = 0
        for start in range(0, len(ids), self._runtime.n_batch):
            cut = slice(start, start + self._runtime.n_batch)
            self._runtime.decode(ids[cut], positions[cut], slots[cut], wanted[cut])
            for row in self._runtime.logits():
                targets[done][:] = row
                done += 1

    def _drop_cache(self, session: int) -> None:
        slot = self._slots.pop(session)
        self._runtime.truncate(slot, 0)
        self._free_slots.append(slot)
        self._free_slots.sort()
        self._cached.pop(session, None)
