"""An engine in Torch: the large model, one key-value cache for each session.

Parts of a work list run one after another. An engine remembers every session's ids but at most `max_sessions` caches:
the one not used for longest makes room, and its session's ids run again when it is next asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from uihlm_basestation.engines.engine import Float32Array, Work
from uihlm_basestation.engines.histories import Histories
from uihlm_models.errors import ModelError
from uihlm_models.torch_runtime import TorchModel
from uihlm_models.torch_tree import keep_path, run_tree
from uihlm_proto.fingerprint import fingerprint

DEFAULT_MAX_SESSIONS = 16
DEFAULT_MAX_CONTEXT = 2048


class TorchEngine:
    """A large model in Torch (`uihlm_basestation.engines.engine.Engine`).

    Attributes:
        tokenizer: the model's.
        vocabulary_size: V.
        fingerprint: the tokenizer's fingerprint, 32 bytes.
        stop_ids: ids that end an answer.
        max_context: positions one session may hold.
        description: model, weight type and library in a few words, for logs.
    """

    def __init__(
        self,
        model: TorchModel,
        *,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_context: int = DEFAULT_MAX_CONTEXT,
    ) -> None:
        """Serve a model.

        Args:
            model: a loaded model.
            max_sessions: caches held in memory at once, at least 1.
            max_context: positions of one session, at most what the model was trained for; 0 takes just that.

        Raises:
            ModelError: if `max_sessions` is below 1.
        """
        if max_sessions < 1:
            raise ModelError(f"an engine needs room for at least 1 session's cache, got {max_sessions}")
        self._model = model
        self._max_sessions = max_sessions
        self.tokenizer = model.tokenizer
        self.vocabulary_size = model.vocabulary_size
        self.fingerprint = fingerprint(model.tokenizer.pieces())
        self.stop_ids = model.stop_ids
        self.max_context = min(max_context or model.context_length, model.context_length)
        self.description = model.description
        self._histories = Histories()
        self._caches: OrderedDict[int, Any] = OrderedDict()  # the one used last stands last

    @property
    def cached_sessions(self) -> frozenset[int]:
        """The sessions whose cache is in memory."""
        return frozenset(self._caches)

    def forward(self, work: Sequence[Work]) -> list[Float32Array]:
        """Run every part of `work` and return its raw logits, `[rows, V]` each; see `Engine.forward`.

        Every part is checked before the first one runs. If a part fails, those before it stand, and the same work can
        be asked again.

        Raises:
            InvalidRequestError: what `Work.check` refuses, a path the session's last tree does not have, or two parts of
                one session.
            ModelError: if the model cannot run a tree.
        """
        self._histories.check(work, self.max_context, self.vocabulary_size)
        return [self._run(part) for part in work]

    def close_session(self, session: int) -> None:
        """Forget a session; unknown ones are ignored."""
        self._histories.forget(session)
        self._caches.pop(session, None)

    def close(self) -> None:
        """Forget every session; the model itself goes when nothing refers to it."""
        self._histories.clear()
        self._caches.clear()

    def _run(self, part: Work) -> Float32Array:
        history, kept = self._histories[part.session], self._histories.kept(part)
        # Out of the table while it runs: a forward that fails leaves layers of different lengths, not to be kept.
        cache = self._caches.pop(part.session, None)
        if cache is None:
            while len(self._caches) >= self._max_sessions:
                self._caches.popitem(last=False)
            cache, start = self._model.new_cache(), 0
        else:
            if history.parents:
                keep_path(cache, len(history.ids), part.path)
            self._model.cut(cache, part.keep_len)
            start = part.keep_len
        if part.parents is None:
            logits = self._model.run(cache, [*kept[start:], *part.new_ids], part.rows)
        else:
            logits = run_tree(self._model, cache, kept[start:], part.new_ids, part.parents, part.rows)
        self._histories.commit(part)
        self._caches[part.session] = cache
        return logits
