"""A drafter in Torch: the small model, one sequence, with the attention of one layer on request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uihlm_device.drafters.drafter import check_branches
from uihlm_device.record import Float32Array, Record, Wants
from uihlm_models.errors import ModelError
from uihlm_models.pytorch.runtime import AttentionKind, TorchModel
from uihlm_models.pytorch.tree import keep_path, run_tree
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.fingerprint import fingerprint

DEFAULT_MAX_CONTEXT = 2048

_FIRST_ROWS = 256
_LOGITS_ONLY = Wants()


@dataclass(slots=True)
class _Tap:
    """What the hooks of one forward caught.

    Attributes:
        last_row: the last token's weights, `[head, n]`.
        mean_rows: head-averaged rows of every chunk, `[chunk, n]` each; left empty unless `keep_rows`.
        hidden: hidden state of the last token, `[d_model]`.
        layer_rows: the last token's weights of every layer hooked, in order, `[head, n]` each.
    """

    keep_rows: bool
    last_row: Float32Array | None = None
    layer_rows: list[Float32Array] = field(default_factory=list)
    mean_rows: list[Float32Array] = field(default_factory=list)
    hidden: Float32Array | None = None

    def attention(self, module: Any, inputs: Any, output: Any) -> None:
        """Forward hook of the layer's self-attention: its second output is the weights, `[1, head, chunk, n]`."""
        weights = output[1][0].float()
        self.last_row = _normalised(weights[:, -1].cpu().numpy())
        if self.keep_rows:
            self.mean_rows.append(_normalised(weights.mean(0).cpu().numpy()))

    def layer_attention(self, module: Any, inputs: Any, output: Any) -> None:
        """Forward hook of every layer's self-attention, as `attention`."""
        self.layer_rows.append(_normalised(output[1][0][:, -1].float().cpu().numpy()))

    def hidden_state(self, module: Any, inputs: Any, output: Any) -> None:
        """Forward hook of the decoder stack, whose output is taken after the final norm, `[1, chunk, d_model]`."""
        self.hidden = output.last_hidden_state[0, -1].float().cpu().numpy()


def _normalised(rows: Float32Array) -> Float32Array:
    """Return rows that sum to 1 in float32 also where the model computed them in 16 bits."""
    total: Float32Array = rows.sum(axis=-1, keepdims=True)
    return rows / total


class TorchDrafter:
    """A small model in Torch, with a key-value cache for one sequence (`uihlm_device.drafters.drafter.Drafter`).

    Hooks are set for a forward that asks for extras and taken off after it, so that one that does not pays nothing.

    Attributes:
        tokenizer: the model's.
        vocabulary_size: V.
        fingerprint: the tokenizer's fingerprint, 32 bytes.
        stop_ids: ids that end an answer.
        max_context: positions the cache holds.
        n_layer: decoder layers of the model.
        n_head: attention heads of a layer.
        description: model, weight type and library in a few words.
    """

    def __init__(
        self, model: TorchModel, *, attention_layer: int | None = None, max_context: int = DEFAULT_MAX_CONTEXT
    ) -> None:
        """Draft with a model.

        Args:
            model: a loaded model; with AttentionKind.EAGER if attention will be asked for.
            attention_layer: the layer whose attention can be asked for, from 0; None: attention is not asked for.
            max_context: positions of the cache, at most what the model was trained for; 0 takes just that.

        Raises:
            ModelError: if the model has no such layer or hides its attention weights.
        """
        self._model = model
        self.tokenizer = model.tokenizer
        self.vocabulary_size = model.vocabulary_size
        self.fingerprint = fingerprint(model.tokenizer.pieces())
        self.stop_ids = model.stop_ids
        self.max_context = min(max_context or model.context_length, model.context_length)
        self.n_layer = model.layer_count
        self.n_head = model.head_count
        self.description = model.description
        self._cache = model.new_cache()
        self._ids: list[int] = []
        # The tree that hangs from their end: its nodes and their parents.
        self._nodes: list[int] = []
        self._parents: list[int] = []
        # Head-averaged attention rows of the first `_known_rows` positions, zero above the diagonal.
        self._rows = np.zeros((0, 0), np.float32)
        self._known_rows = 0
        self._attention: Any = None
        if attention_layer is not None:
            self.watch(attention_layer)

    def watch(self, layer: int) -> None:
        """Read another layer's attention from the next forward on; rows of a matrix kept so far are dropped.

        Raises:
            ModelError: if the model has no such layer or hides its attention weights.
        """
        if self._model.attention is not AttentionKind.EAGER:
            raise ModelError(
                f"{self._model.label} was loaded with {self._model.attention.value} attention, which hides its weights:"
                " load it with eager attention"
            )
        if not 0 <= layer < self.n_layer:
            raise ModelError(f"there is no layer {layer}: the model has layers 0 … {self.n_layer - 1}")
        self._attention = self._self_attention(layer)
        self._known_rows = 0

    def _self_attention(self, layer: int) -> Any:
        layers = getattr(self._model.module.get_decoder(), "layers", None)
        attention = getattr(layers[layer], "self_attn", None) if layers is not None else None
        if attention is None:
            raise ModelError(
                f"layer {layer} of {self._model.label} has no self-attention that can be read: use another layer, or a"
                " policy without importance"
            )
        return attention

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = _LOGITS_ONLY) -> Record:
        """Cut the cache to `keep_len` positions, run `new_ids` after them; see `Drafter.forward`.

        Rows of the attention matrix that earlier forwards did not ask for are had by running their tokens again.

        Raises:
            InvalidRequestError: if `new_ids` is empty or holds an id out of range, `keep_len` exceeds the cache, or the
                context is full.
            ModelError: if attention is asked of a drafter made without an attention layer.
        """
        self._check(keep_len, new_ids, wants)
        self.settle(())
        ids = [*self._ids[:keep_len], *new_ids]
        self._known_rows = min(self._known_rows, keep_len)
        start = self._known_rows if wants.attention_matrix else keep_len
        tap = _Tap(keep_rows=wants.attention_matrix)
        try:
            self._model.cut(self._cache, start)
            with ExitStack() as hooks:
                self._set_hooks(hooks, tap, wants)
                logits = self._model.run(self._cache, ids[start:], rows=1)[0]
        except BaseException:
            # Layers may hold different lengths now: nothing of the cache can be kept.
            self.close()
            raise
        self._ids = ids
        matrix = self._extended_matrix(tap.mean_rows, len(ids)) if wants.attention_matrix else None
        # A long input runs in chunks, each of which leaves a row a layer: those of the last one see all positions.
        layers = np.stack(tap.layer_rows[-self.n_layer :]) if wants.attention_layers else None
        return Record(logits, tap.last_row if wants.attention else None, matrix, tap.hidden, layers)

    def grow(self, ids: Sequence[int], parents: Sequence[int]) -> Float32Array:
        """Run nodes of a tree; see `TreeDrafter.grow`.

        Raises:
            InvalidRequestError: as `TreeDrafter.grow` says.
            ModelError: if the model takes no positions or masks.
        """
        check_branches(ids, parents, len(self._nodes), self.vocabulary_size)
        nodes, whole = [*self._nodes, *ids], [*self._parents, *parents]
        try:
            logits = run_tree(self._model, self._cache, (), nodes, whole, len(ids), len(self._nodes))
        except BaseException:
            self.close()
            raise
        self._nodes, self._parents = nodes, whole
        return logits

    def settle(self, path: Sequence[int], kept: Sequence[int] = ()) -> None:
        """End the tree, of which `path` stands; see `TreeDrafter.settle`."""
        if self._nodes:
            keep_path(self._cache, len(self._ids), [*path, *kept])
            self._ids += [self._nodes[node] for node in path]
            numbers = {node: number for number, node in enumerate(kept)}
            self._parents = [numbers.get(self._parents[node], -1) for node in kept]
            self._nodes = [self._nodes[node] for node in kept]

    def close(self) -> None:
        """Empty the cache; the model itself goes when nothing refers to it."""
        self._cache, self._ids, self._known_rows = self._model.new_cache(), [], 0
        self._nodes, self._parents = [], []

    def _check(self, keep_len: int, new_ids: Sequence[int], wants: Wants) -> None:
        if len(new_ids) == 0:
            raise InvalidRequestError("a forward needs at least one new id")
        if not 0 <= keep_len <= len(self._ids):
            raise InvalidRequestError(f"cannot keep {keep_len} positions: the cache holds {len(self._ids)}")
        if keep_len + len(new_ids) > self.max_context:
            raise InvalidRequestError(
                f"the drafter's context is full: {keep_len} + {len(new_ids)} positions, it holds {self.max_context}"
            )
        if min(new_ids) < 0 or max(new_ids) >= self.vocabulary_size:
            raise InvalidRequestError(f"an id is outside the vocabulary of {self.vocabulary_size} tokens")
        if (wants.attention or wants.attention_matrix or wants.attention_layers) and self._attention is None:
            raise ModelError("attention was asked for: make the drafter with an attention_layer")

    def _set_hooks(self, hooks: ExitStack, tap: _Tap, wants: Wants) -> None:
        """Hang `tap` on the modules whose outputs are wanted; leaving `hooks` takes it off."""
        if wants.attention or wants.attention_matrix:
            hooks.callback(self._attention.register_forward_hook(tap.attention).remove)
        if wants.attention_layers:
            for layer in range(self.n_layer):
                hooks.callback(self._self_attention(layer).register_forward_hook(tap.layer_attention).remove)
        if wants.hidden:
            stack = self._model.module.get_decoder()
            hooks.callback(stack.register_forward_hook(tap.hidden_state).remove)

    def _extended_matrix(self, mean_rows: Sequence[Float32Array], n: int) -> Float32Array:
        """Write new head-averaged rows below the known ones and return the matrix, `[n, n]`."""
        if n > len(self._rows):
            size = max(_FIRST_ROWS, min(2 * n, self.max_context), n)
            grown = np.zeros((size, size), np.float32)
            known = self._known_rows
            grown[:known, :known] = self._rows[:known, :known]
            self._rows = grown
        for rows in mean_rows:
            end = self._known_rows + len(rows)
            # A masked weight is exactly 0, so what is above the diagonal stays so.
            self._rows[self._known_rows : end, : rows.shape[1]] = rows
            self._known_rows = end
        return self._rows[:n, :n]
