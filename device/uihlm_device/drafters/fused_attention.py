"""The attention weights of a layer whose attention llama.cpp runs fused, which never writes them down.

    A = softmax(s · Q Kᵀ + M)       M: 0 where a token sees a cell, −∞ where it does not

Q, K and M are inputs of the graph's node. Q of the batch's tokens and M are caught while the graph runs, since its later nodes
take their memory; K stays in the cache. A row is few products. What takes time is to turn a whole cache of 16-bit keys into
floats for each, so those are kept, and only the cells that are new are read; and Python that a forward has just thrown out of
the processor's caches, so there is little of it, and what can wait is done behind the forward, with all else that is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_device.drafters.graph_tensors import FusedNode, GraphTensors
from uihlm_device.record import Float32Array
from uihlm_models.errors import ModelError

# By a number's bytes; little-endian, as GGUF files are.
_MINUS_INFINITY = {2: b"\x00\xfc", 4: b"\x00\x00\x80\xff"}


def _places(floats: Float32Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return where numbers of a type are put to make these floats: BF16, as bits, is the upper half of each."""
    return floats.view(np.uint16)[..., 1::2] if dtype == np.uint16 else floats


class FusedAttention:
    """The weights of one layer, batch after batch.

    Attributes:
        kept: how many leading positions' keys are held as floats; lower it to the first position that is run again.
    """

    def __init__(self, tensors: GraphTensors) -> None:
        """Read with `tensors`, which nobody else does: what it read last is looked at later."""
        self._tensors = tensors
        self._keys: Float32Array = np.empty((1, 0, 1), np.float32)
        # Where what is read goes: the same memory.
        self._places: npt.NDArray[Any] = self._keys
        self.kept = 0
        self._node: FusedNode | None = None
        self._queries = self._mask = self._places

    def catch(self, output: int, tokens: int, every_row: bool) -> None:
        """Take the queries of a batch's last token, or of every one, and what each sees, while the graph runs.

        Args:
            output: address of the tensor that holds the layer's heads' outputs, just computed.
            tokens: positions of the batch.
            every_row: of every token, not of the last one alone.

        Raises:
            ModelError: if its attention is not fused, or weights depend on more than Q and K (sinks).
        """
        self._node = node = self._tensors.fused(output)
        if not node.mask or node.sinks:
            raise ModelError(
                "a token's weights on the positions it sees do not sum to 1 (sinks), or it sees all (no mask)"
            )
        first = 0 if every_row else tokens - 1
        self._queries = self._tensors.rows(node.queries, first, tokens)
        self._mask = self._tensors.rows(node.mask, first, tokens)[0]

    def weights(self, length: int) -> Float32Array:
        """Return A of what was caught, `[head, row, length]`, rows summing to 1; its graph has run, and no other since.

        Args:
            length: positions of the sequence, the batch's included.

        Raises:
            ModelError: if cells are not positions, or weights depend on distances too.
        """
        node, q, mask = self._node, self._queries, self._mask
        assert node is not None, "weights are asked for once queries have been caught"
        heads, rows, width = q.shape
        unseen = self._unseen(mask[-1].tobytes(), mask.itemsize, length)
        self._keep(node.keys, length)
        # Heads that share keys are neighbours.
        shared = q.reshape(len(self._keys), -1, width)
        scores: Float32Array = (shared @ self._keys[:, :length].transpose(0, 2, 1)).reshape(heads, rows, length)
        if node.softcap:
            scores = node.softcap * np.tanh(scores * np.float32(node.scale / node.softcap))
        else:
            scores *= node.scale
        if rows > 1 or unseen:
            scores += mask[:, :length]
        scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= np.add.reduce(scores, axis=-1, keepdims=True)
        return scores

    def _unseen(self, newest: bytes, itemsize: int, length: int) -> int:
        """Return how many of the first positions the newest token does not see, outside its window.

        It must see all later ones and no other cell: the index of a cell is its position then.
        """
        nothing = _MINUS_INFINITY[itemsize]
        seen = newest.find(bytes(itemsize)) // itemsize
        cells = len(newest) // itemsize
        if newest != seen * nothing + bytes(max(0, length - seen) * itemsize) + (cells - length) * nothing:
            raise ModelError("its weights cannot be read by position (cells in another order, or weights by distance)")
        return seen

    def _keep(self, address: int, length: int) -> None:
        """Hold the keys of all positions as floats, `[key head, position, width]`."""
        new = self._tensors.rows(address, self.kept, length)
        if length > self._keys.shape[1]:
            heads, _, width = new.shape
            # Zeros: of BF16 only the upper halves are written.
            grown = np.zeros((heads, max(256, 2 * length), width), np.float32)
            grown[:, : self.kept] = self._keys[:, : self.kept]
            self._keys, self._places = grown, _places(grown, new.dtype)
        self._places[:, self.kept : length] = new
        self.kept = length
