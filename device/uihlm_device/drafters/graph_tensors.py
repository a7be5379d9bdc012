"""Tensors of llama.cpp's graphs by address: their names, the inputs of fused attention, and their numbers, wherever they lie.

ggml's tensor is read field by field; that this build lays it out as is assumed here is checked by where it keeps names, and for
each shape by its own count of bytes.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from uihlm_models.errors import ModelError
from uihlm_models.llama.binding import native_function

# Numbers of ggml's type enum, which is written into files and so never renumbered; BF16 as its bits.
_DTYPES: dict[int, type[np.generic]] = {0: np.float32, 1: np.float16, 30: np.uint16}
_FUSED = b"FLASH_ATTN_EXT"

# type, buffer, ne[4], nb[4] │ op │ op_params[16]: scale, –, softcap │ flags │ src[10]: Q, K, V, M, sinks │ …
_SHAPE = struct.Struct("=i12x4q4Q")
_NODE = struct.Struct("=80xif4xf56x5Q")
_SOURCES, _NAME = 152, 256
_OTHER_LAYOUT = "this build of llama.cpp lays tensors out in another way: use llama-cpp-python 0.3.36"
# Shapes change with the number of tokens and with the padded number of cells; each reader holds a buffer of one row.
_MOST_READERS = 64


class FusedNode(NamedTuple):
    """Fused attention's inputs: parameters, and addresses of tensors, 0 for those it has not."""

    op: int
    scale: float
    softcap: float
    queries: int
    keys: int
    values: int
    mask: int
    sinks: int


class GraphTensors:
    """Reads them. An address is good as long as its graph is."""

    def __init__(self) -> None:
        self._get_name = native_function("ggml_get_name", ctypes.c_void_p, [ctypes.c_void_p])
        self._get_op = native_function("ggml_op_desc", ctypes.c_char_p, [ctypes.c_void_p])
        self._get_bytes = native_function("ggml_nbytes", ctypes.c_size_t, [ctypes.c_void_p])
        self._copy = native_function(
            "ggml_backend_tensor_get", None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        )
        self._readers: dict[bytes, _Reader] = {}
        self._fused_op: int | None = None

    def name(self, address: int) -> bytes:
        """Return a tensor's name."""
        return ctypes.string_at(self._get_name(address))

    def fused(self, output: int) -> FusedNode:
        """Return the node whose output, seen in another shape, is the tensor at this address.

        Raises:
            ModelError: if that is no fused attention, or tensors are not laid out as is assumed here.
        """
        if self._fused_op is None and self._get_name(output) != output + _NAME:
            raise ModelError(_OTHER_LAYOUT)
        source = ctypes.c_void_p.from_address(output + _SOURCES).value
        if source is None:
            raise ModelError("its attention is not fused")
        node = FusedNode._make(_NODE.unpack(ctypes.string_at(source, _NODE.size)))
        if node.op != self._fused_op:
            if self._get_op(source) != _FUSED:
                raise ModelError("its attention is not fused")
            self._fused_op = node.op
        return node

    def rows(self, address: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Return rows `start` … `stop` − 1 of the second dimension of a tensor, `[third, row, first]`, BF16 as its bits.

        One row is a view, valid until a row of any tensor of that shape is read.

        Raises:
            ModelError: if its numbers are of another type, it has fewer rows, or holds more than one stream.
        """
        shape = ctypes.string_at(address, _SHAPE.size)
        reader = self._readers.get(shape)
        if reader is None:
            if len(self._readers) >= _MOST_READERS:
                self._readers.clear()
            reader = self._readers[shape] = _Reader(shape, self._get_bytes(address))
        return reader.rows(self._copy, address, start, stop)


class _Reader:
    """Copies out of tensors of one type and shape."""

    def __init__(self, shape: bytes, size: int) -> None:
        kind, *dimensions = _SHAPE.unpack(shape)
        self._width, self._rows, self._planes, streams = dimensions[:4]
        dtype = _DTYPES.get(kind)
        if dtype is None or streams != 1:
            raise ModelError(f"unexpected tensor: type {kind}, shape {dimensions[:4]}")
        self._dtype = np.dtype(dtype)
        self._strides = (dimensions[6], dimensions[5], dimensions[4])
        if self._extent(self._rows) != size:
            raise ModelError(_OTHER_LAYOUT)
        self._row, self._row_address, self._row_bytes = self._buffer(1)

    def _extent(self, rows: int) -> int:
        """Return the bytes from the first number of some rows to the end of their last."""
        plane, row, number = self._strides
        steps = (self._planes - 1) * plane + (rows - 1) * row + (self._width - 1) * number
        return int(steps) + self._dtype.itemsize

    def _buffer(self, rows: int) -> tuple[npt.NDArray[Any], int, int]:
        buffer = np.empty(self._extent(rows), np.uint8)
        shape = (self._planes, rows, self._width)
        return np.ndarray(shape, self._dtype, buffer, 0, self._strides), buffer.ctypes.data, buffer.size

    def rows(self, copy: Any, address: int, start: int, stop: int) -> npt.NDArray[Any]:
        if stop > self._rows:
            raise ModelError(f"a tensor of {self._rows} rows was to be read up to row {stop}")
        if stop - start == 1:
            found, to, size = self._row, self._row_address, self._row_bytes
        else:
            found, to, size = self._buffer(stop - start)
        copy(address, to, start * self._strides[1], size)
        return found
