"""A second context on a loaded llama.cpp model, in which sequences may share cells: what draft trees need.

A node of a tree belongs to the sequences of all leaves below it, so that one forward runs every branch and each sees its own
path alone. Streams of their own (`LlamaRuntime`) refuse tokens with several sequences, hence the second context; the
weights are shared. State moves between the two byte for byte.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from uihlm_models.errors import ModelError
from uihlm_models.llama.runtime import LlamaRuntime, RuntimeSettings, new_context

# Sequences that llama.cpp tells apart in one context (LLAMA_MAX_SEQ), and the least batch that many need.
MAX_SEQUENCES = 256


class LlamaPool(LlamaRuntime):
    """One pool of cells on the model of another runtime. Not for use by two threads at once.

    Attributes:
        cells: positions that all sequences may hold together, a shared one counted once.
    """

    def __init__(self, owner: LlamaRuntime, settings: RuntimeSettings) -> None:
        """Make a context of `settings.n_ctx` cells and MAX_SEQUENCES sequences on the owner's model.

        `n_seq_max` and `unified` are set here, and `n_batch` is at least MAX_SEQUENCES. Close it before its owner.

        Raises:
            ModelError: if llama.cpp cannot make the context.
        """
        settings = replace(
            settings, unified=True, n_seq_max=MAX_SEQUENCES, n_batch=max(settings.n_batch, MAX_SEQUENCES)
        )
        lib, model = owner._lib, owner._model
        context = new_context(lib, model, owner._path, settings)
        self._owner = owner  # the model must outlive the context
        self._start(lib, model, context, owner._path, settings, owned=False)
        self.cells = self.n_ctx

    def decode_shared(
        self,
        ids: Sequence[int],
        positions: npt.NDArray[np.int32],
        sequences: Sequence[Sequence[int]],
        wanted: npt.NDArray[np.bool_],
    ) -> None:
        """Run one batch as `decode` does, token i in all of `sequences[i]`, at least one each.

        Raises:
            ModelError: if the batch exceeds `n_batch`, or llama.cpp cannot run it.
        """
        count = len(ids)
        own_pointers = self._sequence_pointers[:count].copy()
        counts = np.fromiter((len(s) for s in sequences), np.int32, count)
        flat = np.fromiter((s for those in sequences for s in those), np.int32, int(counts.sum()))
        firsts = (np.cumsum(counts) - counts).astype(np.uint64)
        try:
            self._sequence_counts[:count] = counts
            self._sequence_pointers[:count] = np.uint64(flat.ctypes.data) + np.uint64(4) * firsts
            # `decode` writes through its own array of sequences, which no pointer names now.
            self.decode(ids, positions, 0, wanted)
        finally:
            self._sequence_counts[:count] = 1
            self._sequence_pointers[:count] = own_pointers

    def share(self, source: int, target: int, start: int, stop: int = -1) -> None:
        """Put the cells of `source` at positions start … stop − 1 (−1: to the end) into `target` as well; none may be in it."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, start, stop)

    def load(self, sequence: int, state: npt.NDArray[np.uint8]) -> None:
        """Make a sequence what `LlamaRuntime.state` on the same model returned.

        Raises:
            ModelError: if it does not fit.
        """
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if self._lib.llama_state_seq_set_data(self._context, pointer, state.size, sequence) == 0:
            raise ModelError(f"llama.cpp cannot place a sequence of {state.size} bytes: the cache has no room for it")

    def take_over(self, source: int, target: int) -> bool:
        """Copy sequence `source` of the owner into `target` here, and return whether that could be done.

        It cannot where a model keeps more than one cache (sliding windows of their own); `target` is then empty.
        """
        state = _of_one_stream(self._owner.state(source), self._owner.n_seq_max, source)
        try:
            self.load(target, state)
        except ModelError:
            self.truncate(target, 0)
            return False
        return True

    def clear(self) -> None:
        """Forget every sequence; the contents of the cells need not be wiped."""
        self._lib.llama_memory_clear(self._memory, False)


def _of_one_stream(state: npt.NDArray[np.uint8], streams: int, sequence: int) -> npt.NDArray[np.uint8]:
    """Return a stream's state as a pool would have written it.

    llama.cpp writes the number of streams after two words, then a cell count for each; all but the sequence's own are 0.
    """
    words = state[: 4 * (3 + sequence)].view(np.uint32)
    end = state.size - 4 * (streams - 1 - sequence)
    if words[2] != streams or words[3:].any() or state[end:].any():
        return state  # of another layout: `load` refuses it
    return np.concatenate([state[:8], np.array([1], np.uint32).view(np.uint8), state[words.nbytes : end]])
