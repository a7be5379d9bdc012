"""A GGUF in another weight type: what a base station serves many sessions from need not be what one device would choose.

4-bit weights are unpacked anew for every few columns of a batch; wider ones are read as they are. From a file of 4-bit weights
`float32` has the very same weights, the others round them (8 bits: by less than the 4 bits had).
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from pathlib import Path

from uihlm_models.bundled import cache_dir, file_digest
from uihlm_models.errors import ModelError
from uihlm_models.llama.binding import forget_errors, library, load_model, metadata, recent_errors
from uihlm_models.paths import open_to_readers

# Numbers of llama.cpp's enum of file types, which is written into files and so never renumbered.
FILE_TYPES = {"float32": 0, "float16": 1, "q8_0": 7, "bfloat16": 32}

# Bits of a weight, scales included; types that are not here take fewer than 8.
_WIDTHS_BIT = {0: 32.0, 1: 16.0, 7: 8.5, 32: 16.0}

_HASH_DIGITS = 16


def rewritten_path(source: Path, weight_type: str) -> Path:
    """Return where the cache holds, or would hold, a file in another type."""
    return cache_dir() / f"{source.stem}-{weight_type}-{file_digest(source)[:_HASH_DIGITS]}.gguf"


def not_narrower(source: Path) -> dict[str, float]:
    """Return the types of FILE_TYPES that lose nothing of a file's own but last bits, with the bytes each would take.

    Raises:
        ModelError: if the file cannot be read.
    """
    model = load_model(source, vocabulary_only=True)
    try:
        own = int(metadata(model, "general.file_type") or -1)
    finally:
        library().llama_model_free(model)
    size = source.stat().st_size
    # Files of few bits hold some tensors in more: a fifth more than 4 bits a weight, roughly.
    own_bit = _WIDTHS_BIT.get(own, 5.0)
    return {
        name: size * _WIDTHS_BIT[number] / own_bit
        for name, number in FILE_TYPES.items()
        if number != own and _WIDTHS_BIT[number] >= own_bit
    }


def rewritten(source: Path, weight_type: str) -> Path:
    """Return the same model with its weights in another of FILE_TYPES, from the user's cache or written into it now.

    Raises:
        ModelError: for a type that is not known, or if the file cannot be written.
    """
    if weight_type not in FILE_TYPES:
        raise ModelError(f"llama.cpp has no weights of type {weight_type}: take one of {', '.join(FILE_TYPES)}")
    path = rewritten_path(source, weight_type)
    if path.exists():
        return path
    lib = library()
    settings = lib.llama_model_quantize_default_params()
    settings.ftype, settings.allow_requantize = FILE_TYPES[weight_type], True
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        os.close(handle)
        temporary = Path(name)
        forget_errors()
        if lib.llama_model_quantize(os.fsencode(source), os.fsencode(temporary), ctypes.byref(settings)) != 0:
            raise ModelError(f"llama.cpp cannot write {source.name} as {weight_type} ({recent_errors()})")
        # In one step: no reader ever sees half a file.
        open_to_readers(temporary)
        temporary.replace(path)
    except OSError as error:
        raise ModelError(
            f"{source.name} cannot be written as {weight_type} to {path.parent} ({error}): free some space, or set "
            "UIHLM_CACHE to a folder that can be written"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path
