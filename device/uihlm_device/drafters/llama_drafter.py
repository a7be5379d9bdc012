"""A drafter on llama.cpp: one sequence, logits as views, attention weights only where a policy asks for them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from uihlm_device.drafters.attention_tap import AttentionTap
from uihlm_device.drafters.llama_branches import LlamaBranches
from uihlm_device.record import Float32Array, Record, Wants
from uihlm_models.errors import ModelError
from uihlm_models.llama.kv_type import KvType, steady_kv_type
from uihlm_models.llama.pool import LlamaPool
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings
from uihlm_models.llama.tokenizer import LlamaTokenizer
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.fingerprint import fingerprint
from uihlm_proto.limits import MAX_DRAFTS

DEFAULT_MAX_CONTEXT = 2048

_LOGITS_ONLY = Wants()

logger = logging.getLogger(__name__)


class LlamaDrafter:
    """A small model in a GGUF file, with a key-value cache for one sequence (`uihlm_device.drafters.drafter.Drafter`).

    Attributes:
        tokenizer: the model's; valid until `close`.
        vocabulary_size: V.
        fingerprint: the tokenizer's fingerprint, 32 bytes.
        stop_ids: ids that end an answer.
        max_context: positions the cache holds.
        n_layer: blocks of the model.
        n_head: attention heads of a block.
        description: model, weight type and library in a few words.

    Raises:
        ModelError: if the file cannot be loaded or has no such layer.
    """

    def __init__(
        self,
        path: Path,
        *,
        attention_layer: int | None = None,
        attention_matrix: bool = False,
        hidden: bool = False,
        max_context: int = DEFAULT_MAX_CONTEXT,
        n_threads: int = 0,
        gpu_layers: int = -1,
        kv_type: KvType | None = None,
    ) -> None:
        """Load a model.

        Args:
            path: a GGUF file.
            attention_layer: the layer whose attention can be asked for, from 0; None saves the callback.
            attention_matrix: keep every row's attention averaged over heads, so that the matrix can be asked for.
            hidden: hidden states can be asked for.
            max_context: positions of the cache, at most what the model was trained for; 0 takes just that.
            n_threads: CPU threads; 0 takes the cores this process may use.
            gpu_layers: blocks put on a GPU if there is one; -1 puts all.
            kv_type: how the key-value cache is stored; None is `steady_kv_type`, where a token's floats do not depend on
                what it was batched with.
        """
        if attention_matrix and attention_layer is None:
            raise ModelError("an attention matrix needs an attention_layer")
        self._tap = None if attention_layer is None else AttentionTap(attention_layer)
        # Read only where there is a tap.
        self._layer = attention_layer or 0
        settings = RuntimeSettings(
            n_ctx=max_context,
            n_threads=n_threads,
            gpu_layers=gpu_layers,
            embeddings=hidden,
            kv_type=kv_type or steady_kv_type(),
            cb_eval=None if self._tap is None else self._tap.callback,
        )
        self._settings = settings
        self._runtime = LlamaRuntime(path, settings)
        # What the first tree replaces by a pool of cells is held on to: its model is in use.
        self._owner = self._runtime
        self._branches: LlamaBranches | None = None
        self.tokenizer: LlamaTokenizer = self._runtime.tokenizer
        self.vocabulary_size = self._runtime.vocabulary_size
        self.fingerprint = fingerprint(self.tokenizer.pieces())
        self.stop_ids = self.tokenizer.stop_ids
        self.max_context = self._runtime.n_ctx
        self.n_layer = self._runtime.n_layer
        self.n_head = self._runtime.n_head
        self.description = f"{path.stem} ({self._runtime.description}, llama.cpp)"
        self._hidden = hidden
        self._matrix: Float32Array | None = np.zeros((0, 0), np.float32) if attention_matrix else None
        self._length = 0
        if attention_layer is not None:
            self._check_layer(attention_layer)
            self._try_attention()

    def watch(self, layer: int) -> None:
        """Read another layer's attention from the next forward on; rows of a matrix kept so far are dropped.

        Raises:
            ModelError: if the drafter was loaded without an attention layer, or the model has no such layer.
        """
        if self._tap is None:
            raise ModelError("this drafter was loaded without attention: load it with an attention_layer")
        self._check_layer(layer)
        self._layer = layer
        self._tap.watch((layer,))
        if self._matrix is not None:
            self._truncate(0)

    def _try_attention(self) -> None:
        """Read one row now, so that a model whose attention cannot be read says so before an answer has begun."""
        try:
            self.forward(0, [0], Wants(attention=True))
        except ModelError:
            self.close()
            raise
        self._truncate(0)

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self.n_layer:
            self.close()
            raise ModelError(f"there is no layer {layer}: the model has layers 0 … {self.n_layer - 1}")

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = _LOGITS_ONLY) -> Record:
        """Cut the cache to `keep_len` positions, run `new_ids` after them, return the last one's record; see `Drafter`.

        Raises:
            InvalidRequestError: if `new_ids` is empty or holds an id out of range, `keep_len` exceeds the cache, or the
                context is full.
            ModelError: if the record asks for what the drafter was not loaded for, or llama.cpp fails.
        """
        self._check(keep_len, new_ids, wants)
        self.settle(())
        if keep_len < self._length:
            self._truncate(keep_len)
        # With hidden states on, llama.cpp outputs every token of a batch: only the last one may run that way.
        alone = 1 if wants.hidden else 0
        head = len(new_ids) - alone
        n_batch = self._runtime.n_batch
        for start in range(0, head, n_batch):
            stop = min(start + n_batch, head)
            self._run(new_ids[start:stop], wants, is_last=stop == len(new_ids))
        if alone:
            self._run(new_ids[head:], wants, is_last=True)
        return Record(
            logits=self._runtime.logits()[-1],
            attention=self._attention() if wants.attention else None,
            attention_matrix=self._matrix_view() if wants.attention_matrix else None,
            hidden=self._runtime.hidden() if wants.hidden else None,
            attention_layers=self._every_layer() if wants.attention_layers else None,
        )

    def grow(self, ids: Sequence[int], parents: Sequence[int]) -> Float32Array:
        """Run nodes of a tree; see `TreeDrafter.grow`. The first one moves the cache to where branches can share it.

        Raises:
            InvalidRequestError: as `TreeDrafter.grow` says.
            ModelError: if the drafter was loaded with attention or hidden states, its cache cannot be moved, or llama.cpp
                fails.
        """
        if self._branches is None:
            self._branches = self._with_branches()
        return self._branches.grow(self._length, ids, parents)

    def settle(self, path: Sequence[int], kept: Sequence[int] = ()) -> None:
        """End the tree, of which `path` stands; see `TreeDrafter.settle`."""
        if self._branches is not None:
            self._branches.settle(self._length, path, kept)
            self._length += len(path)

    def _with_branches(self) -> LlamaBranches:
        if self._tap is not None or self._hidden:
            raise ModelError("draft trees need a drafter loaded without attention and hidden states")
        # Branches see the whole context, and the cells of a full tree fit beside it.
        pool = LlamaPool(self._owner, replace(self._settings, n_ctx=self.max_context + MAX_DRAFTS))
        if self._length and not pool.take_over(0, 0):
            pool.close()
            raise ModelError(
                "llama.cpp cannot copy this model's cache (sliding windows of their own), which draft trees need: use a "
                "model with a plain key-value cache, or --backend torch"
            )
        self._owner.truncate(0, 0)
        self._runtime = pool
        return LlamaBranches(pool)

    def _check(self, keep_len: int, new_ids: Sequence[int], wants: Wants) -> None:
        if len(new_ids) == 0:
            raise InvalidRequestError("a forward needs at least one new id")
        if not 0 <= keep_len <= self._length:
            raise InvalidRequestError(f"cannot keep {keep_len} positions: the cache holds {self._length}")
        if keep_len + len(new_ids) > self.max_context:
            raise InvalidRequestError(
                f"the drafter's context is full: {keep_len} + {len(new_ids)} positions, it holds {self.max_context}"
            )
        if min(new_ids) < 0 or max(new_ids) >= self.vocabulary_size:
            raise InvalidRequestError(f"an id is outside the vocabulary of {self.vocabulary_size} tokens")
        if (wants.attention or wants.attention_layers) and self._tap is None:
            raise ModelError("attention was asked for: load the drafter with an attention_layer")
        if wants.attention_matrix and self._matrix is None:
            raise ModelError("the attention matrix was asked for: load the drafter with attention_matrix=True")
        if wants.hidden and not self._hidden:
            raise ModelError("hidden states were asked for: load the drafter with hidden=True")

    def _truncate(self, keep_len: int) -> None:
        self._runtime.truncate(0, keep_len)
        self._length = keep_len

    def _run(self, ids: Sequence[int], wants: Wants, is_last: bool) -> None:
        """Run one batch after the cache; its last token's logits are kept if it is the forward's last."""
        self._runtime.hidden_on(wants.hidden and is_last)
        stop = self._length + len(ids)
        every_row = self._matrix is not None
        capture = every_row or ((wants.attention or wants.attention_layers) and is_last)
        if self._tap is not None:
            layers = tuple(range(self.n_layer)) if wants.attention_layers else (self._layer,)
            if layers != self._tap.layers:
                self._tap.watch(layers)
            self._tap.begin(len(ids), stop, capture, every_row)
        self._decode(ids, is_last)
        if self._tap is not None and capture:
            if not self._tap.captured:
                logger.debug("the graph changed unseen at position %d: running %d tokens again", self._length, len(ids))
                self._tap.forget()
                self._tap.begin(len(ids), stop, capture, every_row)
                self._runtime.truncate(0, self._length)
                self._decode(ids, is_last)
            if not self._tap.captured:
                raise ModelError(
                    f"llama.cpp computes no attention weights at some of the layers {self._tap.layers} of this model: use"
                    " another layer, or a policy without importance"
                )
            if self._matrix is not None:
                self._keep_rows(self._tap.weights(self._layer), stop)
        self._length = stop

    def _decode(self, ids: Sequence[int], is_last: bool) -> None:
        if len(ids) == 1 and is_last:
            self._runtime.decode_one(ids[0], self._length)
            return
        wanted = np.zeros(len(ids), np.bool_)
        wanted[-1] = is_last
        self._runtime.decode(ids, np.arange(self._length, self._length + len(ids), dtype=np.int32), 0, wanted)

    def _attention(self) -> Float32Array | None:
        return None if self._tap is None else self._tap.weights(self._layer)[:, -1, :]

    def _every_layer(self) -> Float32Array | None:
        tap = self._tap
        return None if tap is None else np.stack([tap.weights(layer)[:, -1, :] for layer in tap.layers])

    def _keep_rows(self, weights: Float32Array, stop: int) -> None:
        """Put the head average of `weights` `[head, row, stop]` into the last rows before `stop`."""
        if self._matrix is None:
            return
        if stop > self._matrix.shape[0]:
            size = min(max(256, 2 * stop), self.max_context)
            grown = np.zeros((size, size), np.float32)
            grown[: self._length, : self._length] = self._matrix[: self._length, : self._length]
            self._matrix = grown
        # Masked weights are exact zeros: nothing ever stands above the diagonal.
        self._matrix[self._length : stop, :stop] = weights.mean(axis=0)

    def _matrix_view(self) -> Float32Array | None:
        return None if self._matrix is None else self._matrix[: self._length, : self._length]

    def close(self) -> None:
        """Free the native memory; records and the tokenizer are invalid from here on."""
        self._runtime.close()
        self._owner.close()
