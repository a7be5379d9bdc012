"""The native library behind every GGUF: llama.cpp's own binding, its log, and loading a file."""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_models.errors import ModelError
from uihlm_models.machine import available_cores
from uihlm_models.openmp import load_openmp

_ERROR_LEVEL = 3

# Beyond this, threads wait for each other more than they compute on the small matrices of one token.
_MAX_DEFAULT_THREADS = 16

logger = logging.getLogger(__name__)
_recent_errors: deque[str] = deque(maxlen=3)
_log_callback: Any = None


def library() -> Any:
    """Return llama.cpp's low-level binding, its chatter turned into debug records.

    Raises:
        ModelError: if llama-cpp-python is not installed.
    """
    global _log_callback  # noqa: PLW0603 - llama.cpp has one log sink a process, and it must outlive every model
    if _log_callback is None:
        load_openmp()
    try:
        from llama_cpp import llama_cpp as lib
    except ImportError as error:
        raise ModelError(f"llama-cpp-python cannot be imported ({error}): run `pip install 'uihlm[device]'`") from error
    if _log_callback is None:
        _log_callback = lib.llama_log_callback(_log)
        lib.llama_log_set(_log_callback, ctypes.c_void_p(0))
        lib.llama_backend_init()
    return lib


def load_model(path: Path, gpu_layers: int = 0, vocabulary_only: bool = False) -> Any:
    """Return a native model; the caller frees it with `llama_model_free`.

    Raises:
        ModelError: if the file is missing or llama.cpp cannot read it.
    """
    lib = library()
    if not path.is_file():
        raise ModelError(f"there is no model file {path}: check the path")
    params = lib.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    params.vocab_only = vocabulary_only
    forget_errors()
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelError(
            f"llama.cpp cannot load {path} ({recent_errors()}): it is damaged, or too new for this llama.cpp"
        )
    return model


def metadata(model: Any, key: str) -> str | None:
    """Return a scalar of a native model's metadata as text, or None if there is none of that key."""
    buffer = ctypes.create_string_buffer(256)
    length = library().llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return None if length < 0 else buffer.value.decode("utf-8", "replace")


def native_function(name: str, result: Any, arguments: list[Any]) -> Any:
    """Return a function of llama.cpp or of the tensor library below it, with ctypes types for its result and arguments.

    Raises:
        ModelError: if this build does not export it.
    """
    lib = library()
    try:
        # The loader looks through what libllama itself depends on: the copy that made the tensors, not a second one.
        function = lib._lib[name]
    except AttributeError:
        try:
            from llama_cpp._ctypes_extensions import load_shared_library

            function = load_shared_library("ggml-base", Path(lib.__file__).parent / "lib")[name]
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            raise ModelError(f"this build of llama.cpp does not export {name}: use llama-cpp-python 0.3.36") from error
    function.restype = result
    function.argtypes = arguments
    return function


def float_view(address: int | None, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return native floats as an array of that shape, not copied; ModelError without an address."""
    if not address:
        raise ModelError("llama.cpp holds no output for the last batch")
    memory = _floats(math.prod(shape)).from_address(address)
    flat: npt.NDArray[np.float32] = np.frombuffer(memory, np.float32)
    return flat.reshape(shape)


@functools.cache
def _floats(size: int) -> Any:
    # ctypes makes an array type anew once nobody holds it, which takes as long as the rest of a view does five times over.
    return ctypes.c_float * size


def forget_errors() -> None:
    """Drop the errors seen so far, so that the next failure is not blamed on them."""
    _recent_errors.clear()


def recent_errors() -> str:
    """Return what llama.cpp said went wrong since `forget_errors`."""
    return "; ".join(_recent_errors) or "no reason given"


def default_threads() -> int:
    """Return how many threads a model takes by default: the cores this process may use, 16 at most."""
    return min(available_cores(), _MAX_DEFAULT_THREADS)


def _log(level: int, text: bytes, _user_data: object) -> None:
    if level == _ERROR_LEVEL:
        _recent_errors.append(text.decode("utf-8", "replace").strip())
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s", text.decode("utf-8", "replace").rstrip())
