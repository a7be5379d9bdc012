"""Reads attention weights of one layer, or of several, out of llama.cpp while a graph runs.

llama.cpp asks a callback about every tensor of a graph, some thousand times a token; where the answer is yes it
computes up to that tensor and calls again, and the tensor can be read. Nearly every answer is no, so the callback is a
dictionary's own look-up by the tensor's address, which runs no Python code. Addresses stay good while graphs of one
shape follow one another; a graph of another number of tokens empties the dictionary. A look-up that still went stale
shows up as a layer never seen: `captured` is then False, and the caller empties the dictionary and runs the batch again.
"""

from __future__ import annotations

import collections
import ctypes
from typing import Any

from uihlm_device.drafters.fused_attention import FusedAttention
from uihlm_device.drafters.graph_tensors import GraphTensors
from uihlm_device.record import Float32Array
from uihlm_models.errors import ModelError


class _Answers(dict[int, bool]):
    """Tensor address → False; addresses not in it go to the tap."""

    def __init__(self, tap: AttentionTap) -> None:
        super().__init__()
        self._tap = tap

    def __missing__(self, tensor: int) -> bool:
        return self._tap.answer(tensor)


class AttentionTap:
    """The callback, and the weights it caught.

    Attributes:
        callback: a ctypes function pointer for llama.cpp's `cb_eval`; keep the tap alive as long as the context.
        layers: the layers watched, counted from 0.
    """

    def __init__(self, layer: int) -> None:
        """Watch a layer, counted from 0."""
        self._tensors = GraphTensors()
        self._attention = collections.defaultdict[int, FusedAttention](lambda: FusedAttention(GraphTensors()))
        self._answers = _Answers(self)
        # llama.cpp passes (tensor, ask, user data); a C callee may take fewer arguments than it is given, so the
        # dictionary's look-up fits as it is.
        self.callback: Any = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)(self._answers.__getitem__)
        self._capture = False
        self._every_row = False
        self._asked = 0
        self._tokens = 0
        self._length = 0
        self._error: Exception | None = None
        # Layers caught, and their weights once somebody asks.
        self._weights: dict[int, Float32Array | None] = {}
        self.watch((layer,))

    def watch(self, layers: tuple[int, ...]) -> None:
        """Watch these layers, and no others, from the next batch on."""
        self.layers = layers
        self._layer_of = {f"kqv_out-{layer}".encode(): layer for layer in layers}
        self.forget()

    @property
    def captured(self) -> bool:
        """Whether the last batch's weights were caught, of every layer watched, or an error instead."""
        return self._error is not None or len(self._weights) == len(self.layers)

    def forget(self) -> None:
        """Forget every tensor address."""
        self._answers.clear()

    def begin(self, tokens: int, length: int, capture: bool, every_row: bool) -> None:
        """Prepare for a batch of `tokens` positions that ends at `length`; catch its last row, every row, or none."""
        if tokens != self._tokens:
            self.forget()
        self._tokens = tokens
        self._length = length
        self._capture = capture
        self._every_row = every_row
        self._asked = 0
        self._error = None
        self._weights.clear()
        for attention in self._attention.values():
            attention.kept = min(attention.kept, length - tokens)

    def weights(self, layer: int) -> Float32Array:
        """Return what was caught of a layer, `[head, row, length]`, rows summing to 1; before the next batch runs.

        Raises:
            ModelError: if it could not be read.
        """
        try:
            if self._error is not None:
                raise self._error
            weights = self._weights[layer]
            if weights is None:
                weights = self._weights[layer] = self._attention[layer].weights(self._length)
        except Exception as error:
            raise ModelError(
                f"the attention weights of layer {layer} cannot be read: {error}; use a policy without importance, or "
                "--backend torch"
            ) from error
        return weights

    def answer(self, tensor: int) -> bool:
        """Answer llama.cpp about a tensor whose address is not known: asked first, then called back with its data."""
        try:
            layer = self._layer_of.get(self._tensors.name(tensor))
            if layer is None:
                self._answers[tensor] = False
                return False
            if not self._capture:
                return False
            if self._asked != tensor:
                self._asked = tensor
                return True
            self._attention[layer].catch(tensor, self._tokens, self._every_row)
            self._weights[layer] = None
        # Nothing may leave a callback: llama.cpp would take the missing answer for "stop". `weights` raises it again.
        except Exception as error:
            self._error = error
        self._asked = 0
        return True
