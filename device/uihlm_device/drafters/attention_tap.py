"""Reads attention weights of one layer, or of several, out of llama.cpp while a graph runs.

llama.cpp asks a callback about every tensor of a graph, some thousand times a token; where the answer is yes it
computes up to that tensor and calls again, and the tensor can be read. Nearly every answer is no, so the callback is a
dictionary's own look-up by the tensor's address, which runs no Python code. Addresses stay good while graphs of one
shape follow one another; a graph of another number of tokens empties the dictionary. A look-up that still went stale
shows up as a weight tensor never seen: `captured` is then False, and the caller empties the dictionary and runs the
batch again.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from uihlm_device.record import Float32Array
from uihlm_models.errors import ModelError
from uihlm_models.llama.binding import ggml_function

_FLOAT32 = 0
_ROW_SUM_TOLERANCE = 1e-3


class _TensorHead(ctypes.Structure):
    """The first fields of ggml's tensor; what is read here is checked against ggml's own count of bytes."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
    )


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
        self._get_name = ggml_function("ggml_get_name", ctypes.c_char_p, [ctypes.c_void_p])
        self._get_bytes = ggml_function("ggml_nbytes", ctypes.c_size_t, [ctypes.c_void_p])
        self._copy = ggml_function(
            "ggml_backend_tensor_get", None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        )
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
        self._buffers: dict[int, Float32Array] = {}
        self._weights: dict[int, Float32Array] = {}
        self.watch((layer,))

    def watch(self, layers: tuple[int, ...]) -> None:
        """Watch these layers, and no others, from the next batch on."""
        self.layers = layers
        self._layer_of = {f"kq_soft_max-{layer}".encode(): layer for layer in layers}
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

    def weights(self, layer: int) -> Float32Array:
        """Return what was caught of a layer, `[head, row, length]`, rows summing to 1: a view, valid until the next batch.

        Raises:
            ModelError: if it could not be read, or a row does not sum to 1 over the positions of the sequence.
        """
        if self._error is not None:
            raise ModelError(f"the attention weights of layer {layer} cannot be read: {self._error}") from self._error
        weights = self._weights[layer]
        # Weight outside the first `length` cells would mean that a cell's index is not its position.
        sums = weights.sum(axis=-1)
        if not np.all(np.abs(sums - 1.0) < _ROW_SUM_TOLERANCE):
            raise ModelError(
                f"attention rows of layer {layer} sum to {sums.min():.4f} … {sums.max():.4f} over {self._length}"
                " positions, not to 1: this model's attention cannot be read by position; use a policy without"
                " importance"
            )
        return weights

    def answer(self, tensor: int) -> bool:
        """Answer llama.cpp about a tensor whose address is not known: asked first, then called back with its data."""
        try:
            layer = self._layer_of.get(self._get_name(tensor))
            if layer is None:
                self._answers[tensor] = False
                return False
            if not self._capture:
                return False
            if self._asked != tensor:
                self._asked = tensor
                return True
            self._weights[layer] = self._read(tensor, layer)
        # Nothing may leave a callback: llama.cpp would take the missing answer for "stop". `weights` raises it again.
        except Exception as error:
            self._error = error
        self._asked = 0
        return True

    def _read(self, tensor: int, layer: int) -> Float32Array:
        """Copy the rows wanted of a layer; the tensor is `[stream = 1, head, token, cell]` in C order."""
        head = _TensorHead.from_address(tensor)
        cells, tokens, heads, streams = (int(n) for n in head.ne)
        size = 4 * cells * tokens * heads * streams
        if head.type != _FLOAT32 or streams != 1 or self._get_bytes(tensor) != size:
            raise ModelError(
                f"unexpected tensor: type {head.type}, shape {list(head.ne)}, {self._get_bytes(tensor)} bytes"
            )
        if tokens != self._tokens or cells < self._length:
            raise ModelError(
                f"it has {tokens} rows of {cells} cells, expected {self._tokens} of at least {self._length}"
            )
        whole = self._every_row or tokens == 1
        rows = tokens if whole else 1
        count = heads * rows * cells
        buffer = self._buffers.get(layer)
        if buffer is None or buffer.size < count:
            buffer = self._buffers[layer] = np.empty(count, np.float32)
        address = buffer.ctypes.data
        if whole:
            self._copy(tensor, address, 0, size)
        else:
            for h in range(heads):
                self._copy(tensor, address + 4 * h * cells, 4 * (h * tokens + tokens - 1) * cells, 4 * cells)
        # llama.cpp rounds the number of cells up: the rest is masked.
        return buffer[:count].reshape(heads, rows, cells)[:, :, : self._length]
