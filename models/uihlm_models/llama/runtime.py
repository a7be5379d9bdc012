"""llama.cpp as this project needs it: one GGUF, one context, whole batches in, views of the raw logits out.

The low-level binding is used throughout: the high-level class copies every row of logits and keeps one sequence only.
Sequences have key-value streams of their own, so that a neighbour's cells never enter a session's attention.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_models.errors import ModelError
from uihlm_models.llama.binding import (
    default_threads,
    float_view,
    forget_errors,
    library,
    load_model,
    native_function,
    recent_errors,
)
from uihlm_models.llama.kv_type import KvType
from uihlm_models.llama.tokenizer import LlamaTokenizer
from uihlm_models.llama.turns import Runner, turn

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """How a model is loaded.

    Attributes:
        n_ctx: positions each sequence may hold, at most what the model was trained for; 0 takes just that.
        n_seq_max: sequences held at once.
        n_batch: most positions in one call of `decode`; also llama.cpp's physical batch, so that a call for one
            sequence is one graph.
        n_threads: CPU threads; 0 takes the cores this process may use, 16 at most.
        gpu_layers: blocks put on a GPU, if the library was built for one; -1 puts all.
        kv_type: how the key-value cache is stored.
        unified: one pool of `n_ctx` cells for all sequences, which may then share cells; off gives each its own stream.
        embeddings: whether hidden states can be asked for.
        cb_eval: a ctypes function pointer llama.cpp asks about every tensor of a graph; None for full speed.
    """

    n_ctx: int = 0
    n_seq_max: int = 1
    n_batch: int = 512
    n_threads: int = 0
    gpu_layers: int = -1
    kv_type: KvType = KvType.F16
    unified: bool = False
    embeddings: bool = False
    cb_eval: Any = None


_DEFAULTS = RuntimeSettings()


class LlamaRuntime:
    """A GGUF model with one context. Not for use by two threads at once.

    Attributes:
        tokenizer: the model's; valid until `close`.
        vocabulary_size: V.
        n_ctx: positions each sequence may hold.
        n_batch: most positions in one `decode`.
        n_seq_max: sequences held at once.
        n_layer: blocks of the model.
        n_head: attention heads of a block.
        d_model: width of its hidden states.
        description: architecture, size and weight type, as llama.cpp puts it.

    Raises:
        ModelError: if llama-cpp-python is missing, or the file cannot be loaded.
    """

    def __init__(self, path: Path, settings: RuntimeSettings = _DEFAULTS) -> None:
        lib = library()
        model = load_model(path, settings.gpu_layers)
        try:
            context = new_context(lib, model, path, settings)
        except ModelError:
            lib.llama_model_free(model)
            raise
        self._start(lib, model, context, path, settings)

    def _start(
        self, lib: Any, model: Any, context: Any, path: Path, settings: RuntimeSettings, owned: bool = True
    ) -> None:
        self._lib, self._model, self._context, self._path = lib, model, context, path
        self._free = weakref.finalize(self, _free, lib, context, model if owned else None)
        # Held for as long as the context may call it.
        self._cb_eval = settings.cb_eval
        self._memory = lib.llama_get_memory(self._context)
        self.tokenizer = LlamaTokenizer(model)
        self.vocabulary_size = self.tokenizer.vocabulary_size
        self.n_ctx = int(lib.llama_n_ctx_seq(self._context))
        self.n_batch, self.n_seq_max = settings.n_batch, settings.n_seq_max
        self.n_layer, self.n_head = int(lib.llama_model_n_layer(model)), int(lib.llama_model_n_head(model))
        self.d_model = int(lib.llama_model_n_embd(model))
        self.description = _description(lib, model)
        self._embeddings_allowed, self._embeddings_on = settings.embeddings, False
        on_cpu = settings.gpu_layers == 0 or not lib.llama_supports_gpu_offload()
        self._in_turn: Runner[int] = turn(settings.n_threads or default_threads(), on_cpu)
        self._outputs = 0
        # The binding's own function makes a pointer object first, which takes longer than all the rest of a view.
        self._logits_address = native_function("llama_get_logits", ctypes.c_void_p, [ctypes.c_void_p])
        self._seen: tuple[int | None, int] = (None, 0)
        self._rows: Float32Array = np.empty((0, self.vocabulary_size), np.float32)
        self._make_batch(settings.n_batch)

    def _make_batch(self, capacity: int) -> None:
        """Allocate one batch for good; a call then only fills its arrays, through NumPy views."""
        lib = self._lib
        self._ids = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequence_counts = np.ones(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        # One sequence a token: pointer i points at element i.
        self._sequence_pointers = (self._sequences.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)).astype(
            np.uint64
        )
        self._wanted = np.zeros(capacity, np.int8)
        self._batch = lib.llama_batch()
        int32_p = ctypes.POINTER(ctypes.c_int32)
        self._batch.token = self._ids.ctypes.data_as(int32_p)
        self._batch.embd = None
        self._batch.pos = self._positions.ctypes.data_as(int32_p)
        self._batch.n_seq_id = self._sequence_counts.ctypes.data_as(int32_p)
        self._batch.seq_id = self._sequence_pointers.ctypes.data_as(ctypes.POINTER(int32_p))
        self._batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def decode(
        self,
        ids: Sequence[int],
        positions: Sequence[int] | npt.NDArray[np.int32],
        sequences: Sequence[int] | npt.NDArray[np.int32] | int,
        wanted: Sequence[bool] | npt.NDArray[np.bool_],
    ) -> None:
        """Run one batch: token i at `positions[i]` of sequence `sequences[i]`; keep logits where `wanted[i]`.

        Raises:
            ModelError: if the batch exceeds `n_batch`, or llama.cpp cannot run it.
        """
        count = len(ids)
        if not 0 < count <= self.n_batch:
            raise ModelError(f"a batch holds 1 … {self.n_batch} tokens, got {count}")
        self._ids[:count] = ids
        self._positions[:count] = positions
        self._sequences[:count] = sequences
        self._wanted[:count] = wanted
        self._run(count, int(np.count_nonzero(self._wanted[:count])))

    def decode_one(self, token: int, position: int, sequence: int = 0) -> None:
        """Run one token and keep its logits: `decode` without the arrays, for the loop that drafts."""
        self._ids[0] = token
        self._positions[0] = position
        self._sequences[0] = sequence
        self._wanted[0] = 1
        self._run(1, 1)

    def _run(self, count: int, outputs: int) -> None:
        self._batch.n_tokens = count
        self._outputs = 0
        status = self._in_turn(self._forward)
        if status != 0:
            reason = "no free cells in the key-value cache" if status == 1 else recent_errors()
            raise ModelError(f"llama.cpp could not run {count} tokens (status {status}: {reason})")
        self._outputs = count if self._embeddings_on else outputs

    def _forward(self) -> int:
        # Another forward's, had while this one waited, are not its own.
        forget_errors()
        status: int = self._lib.llama_decode(self._context, self._batch)
        return status

    def logits(self) -> Float32Array:
        """Return the raw logits of the last batch, `[wanted, V]` in batch order: a view, valid until the next batch."""
        if self._outputs == 0:
            return np.empty((0, self.vocabulary_size), np.float32)
        # llama.cpp writes to the same place again and again, so that the view of the last batch mostly does.
        address = self._logits_address(self._context)
        if (address, self._outputs) != self._seen:
            self._rows = float_view(address, (self._outputs, self.vocabulary_size))
            self._seen = address, self._outputs
        return self._rows

    def hidden(self) -> Float32Array:
        """Return the last token's state after the final norm, `[d_model]`: a view, valid until the next batch.

        Raises:
            ModelError: if hidden states were not on for the last batch (`hidden_on`).
        """
        if not self._embeddings_on:
            raise ModelError("hidden states were not asked for before the batch: call hidden_on(True) first")
        pointer = self._lib.llama_get_embeddings_ith(self._context, -1)
        return float_view(ctypes.addressof(pointer.contents) if pointer else None, (self.d_model,))

    def hidden_on(self, on: bool) -> None:
        """Make the next batches output hidden states; every token of such a batch then also outputs logits.

        Raises:
            ModelError: if the runtime was loaded without `embeddings`.
        """
        if on == self._embeddings_on:
            return
        if not self._embeddings_allowed:
            raise ModelError("this model was loaded without hidden states: load it with embeddings=True")
        self._lib.llama_set_embeddings(self._context, on)
        self._embeddings_on = on

    def truncate(self, sequence: int, keep_len: int) -> None:
        """Forget the positions of a sequence from `keep_len` on.

        Raises:
            ModelError: if the model's memory cannot be cut there (recurrent models).
        """
        if not self._lib.llama_memory_seq_rm(self._memory, sequence, keep_len, -1):
            raise ModelError(
                f"this model's memory cannot be rolled back to position {keep_len}: use a model with a plain key-value"
                " cache"
            )

    def state(self, sequence: int) -> npt.NDArray[np.uint8]:
        """Return a sequence's cells as bytes, for another context on the same model (`LlamaPool.load`).

        Raises:
            ModelError: if llama.cpp cannot read them.
        """
        buffer = np.empty(int(self._lib.llama_state_seq_get_size(self._context, sequence)), np.uint8)
        pointer = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if self._lib.llama_state_seq_get_data(self._context, pointer, buffer.size, sequence) != buffer.size:
            raise ModelError(f"llama.cpp cannot read the {buffer.size} bytes of a sequence's cache")
        return buffer

    def close(self) -> None:
        """Free the native memory; every view and the tokenizer are invalid from here on."""
        self._free()

    def __enter__(self) -> LlamaRuntime:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the native memory."""
        self.close()


def new_context(lib: Any, model: Any, path: Path, settings: RuntimeSettings) -> Any:
    """Return a native context on a loaded model; ModelError if there is no room for it."""
    params = lib.llama_context_default_params()
    trained = int(lib.llama_model_n_ctx_train(model))
    per_sequence = min(settings.n_ctx or trained, trained)
    # llama.cpp counts the cells of all sequences together and deals them out evenly, unless they are one pool.
    params.n_ctx = settings.n_ctx if settings.unified else per_sequence * settings.n_seq_max
    params.n_seq_max = settings.n_seq_max
    params.n_batch = params.n_ubatch = settings.n_batch
    params.n_threads = params.n_threads_batch = settings.n_threads or default_threads()
    params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_AUTO
    params.pooling_type = lib.LLAMA_POOLING_TYPE_NONE
    params.kv_unified = settings.unified
    params.type_k, params.type_v = settings.kv_type.ggml_types
    params.no_perf = True
    if settings.cb_eval is not None:
        params.cb_eval = ctypes.cast(settings.cb_eval, lib.ggml_backend_sched_eval_callback)
    forget_errors()
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise ModelError(
            f"llama.cpp cannot make a context of {params.n_ctx} positions for {path.name} ({recent_errors()}): ask for"
            " fewer"
        )
    return context


def _description(lib: Any, model: Any) -> str:
    lib.llama_model_desc(model, buffer := ctypes.create_string_buffer(256), 256)
    return buffer.value.decode("utf-8", "replace")


def _free(lib: Any, context: Any, model: Any | None) -> None:
    lib.llama_free(context)
    if model is not None:
        lib.llama_model_free(model)
