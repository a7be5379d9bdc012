"""An engine in Torch: the large model, a row of one key-value cache for each session, all parts of a forward in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from uihlm_basestation.engines.engine import Float32Array, Work
from uihlm_basestation.engines.slots import Slots
from uihlm_basestation.engines.slotted import DEFAULT_CACHES, DEFAULT_CONTEXT, SlottedEngine, check_caches
from uihlm_models.kv_memory import caches_within
from uihlm_models.pytorch.runtime import TorchModel
from uihlm_models.pytorch.slots import SlotRun, TorchSlots
from uihlm_proto.limits import MAX_DRAFTS


class TorchEngine(SlottedEngine):
    """A large model in Torch (`uihlm_basestation.engines.engine.Engine`)."""

    def __init__(
        self,
        model: TorchModel,
        *,
        max_sessions: int = DEFAULT_CACHES,
        max_context: int = DEFAULT_CONTEXT,
        kv_bytes: int | None = None,
    ) -> None:
        """Serve a model.

        Args:
            model: a loaded model.
            max_sessions: caches held in memory at once, at least 1.
            max_context: positions of one session, at most what the model was trained for; 0 takes just that.
            kv_bytes: most memory for caches; fewer are held where `max_sessions` would take more.

        Raises:
            ModelError: if `max_sessions` is below 1, or `kv_bytes` too little for one cache.
        """
        check_caches(max_sessions)
        context = min(max_context or model.context_length, model.context_length)
        caches = max_sessions
        if kv_bytes is not None:
            caches = min(caches, caches_within(kv_bytes, (context + MAX_DRAFTS) * model.kv_position_bytes))
        super().__init__(
            model.tokenizer,
            vocabulary_size=model.vocabulary_size,
            stop_ids=model.stop_ids,
            max_context=context,
            description=model.description,
            caches=caches,
        )
        self._model = model
        self._rows = TorchSlots(model, self.caches, self.max_context + MAX_DRAFTS)

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Run every part of `work` and return its raw logits, `[rows, V]` each; see `Engine.forward`.

        Every part is checked before any runs. If the model fails, the sessions keep the ids they had before, and the same
        work can be asked again.

        Raises:
            InvalidRequestError: what `Work.check` refuses, a path the session's last tree does not have, or two parts of
                one session.
            ModelError: if the model cannot run a tree.
        """
        self._histories.check(work, self.max_context, self.vocabulary_size)
        rows: list[Float32Array] = []
        for start in range(0, len(work), self.caches):
            rows += self._run(work[start : start + self.caches])
        return rows

    def close(self) -> None:
        """Forget every session; the model itself goes when nothing refers to it."""
        self._histories.clear()
        self._slots = Slots(self.caches)
        self._rows = TorchSlots(self._model, self.caches, self.max_context + MAX_DRAFTS)

    def _run(self, group: Sequence[Work]) -> list[Float32Array]:
        """Run at most `caches` parts and remember what they leave."""
        wanted = {part.session for part in group}
        runs = [self._prepare(part, wanted) for part in group]
        try:
            rows = self._rows.run(runs)
        except Exception:
            # Some layers are further than others: only the ids are known to be right.
            for part in group:
                self._drop_cache(part.session)
            raise
        for part in group:
            self._histories.commit(part)
            self._slots.cached[part.session] = part.keep_len + (len(part.new_ids) if part.parents is None else 0)
            self._slots.hold(part.session, part.more)
        return rows

    def _prepare(self, part: Work, wanted: set[int]) -> SlotRun:
        """Give the session a row, cut it to what stands, and list what must run."""
        if (other := self._slots.crowded_out(part.session, wanted)) is not None:
            self._drop_cache(other)
        slot = self._slots.take(part.session)
        history = self._histories[part.session]
        held = self._slots.cached[part.session]
        if history.parents and held == len(history.ids) and self._rows.length(slot) > held:
            self._rows.keep_path(slot, held, part.path)
            held += len(part.path)
        start = min(part.keep_len, held)
        self._rows.cut(slot, start)
        ids = [*self._histories.kept(part)[start:], *part.new_ids]
        return SlotRun(slot, ids, part.rows, part.parents)

    def _drop_cache(self, session: int) -> None:
        if session in self._slots:
            self._rows.cut(self._slots[session], 0)
            self._slots.release(session)
