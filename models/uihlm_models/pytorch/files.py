"""Where the files of a Torch model are: a GGUF, a local folder, or the hub's cache. Data only: no code, no pickles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from uihlm_models.errors import ModelError
from uihlm_models.paths import expanded

_HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt")
_PICKLES = ("*.bin", "*.pt", "*.pth")
_HUB_ID = re.compile(r"^[\w-][\w.-]*/[\w-][\w.-]*$")


@dataclass(frozen=True, slots=True)
class TorchFiles:
    """A model's files on this machine.

    Attributes:
        folder: where they are.
        gguf_file: name of the GGUF in `folder` that holds everything; None: the folder is a Hugging Face one.
    """

    folder: Path
    gguf_file: str | None


def locate(model: str, revision: str | None, gguf_file: str | None, local_files_only: bool) -> TorchFiles:
    """Return the files of a GGUF path, a local folder or a hub id `owner/name`, fetched if they live on the hub.

    `revision` and `gguf_file` say which of a hub repository's files are meant; `gguf_file` also serves a local folder.

    Raises:
        ModelError: if they are not there, or hold no weights that may be loaded.
    """
    path = expanded(model)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{model} is not a GGUF file: give a .gguf file, a Hugging Face folder or a hub id")
        return TorchFiles(path.parent, path.name)
    if not path.is_dir():
        if model.endswith(".gguf") or not _HUB_ID.match(model):
            raise ModelError(f"no model at {model}: give a .gguf file, a Hugging Face folder or a hub id (owner/name)")
        path = _fetch(model, revision, gguf_file, local_files_only)
    if gguf_file is None:
        _check_folder(path)
    elif not (path / gguf_file).is_file():
        raise ModelError(f"{path} holds no {gguf_file}: check the name of the GGUF file")
    return TorchFiles(path, gguf_file)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def _fetch(repository: str, revision: str | None, gguf_file: str | None, local_files_only: bool) -> Path:
    """Bring a hub repository's files here, or find them in the cache; return its folder there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[gguf_file] if gguf_file is not None else list(_HUB_FILES),
                local_files_only=local_files_only,
            )
        )
    # The hub's errors derive from OSError (no connection, not there, gated, not cached) or ValueError (a malformed id).
    except (OSError, ValueError) as error:
        page = f"https://huggingface.co/{repository}"
        wanted = gguf_file or "its config.json, *.safetensors and tokenizer files"
        raise ModelError(
            f"{repository} cannot be fetched from the model hub ({type(error).__name__}: {first_line(error)}). If it is"
            f" gated, accept its licence at {page} and run `hf auth login`. Without a connection, download {wanted}"
            f" from {page} on another machine into one folder, copy it here and give its path"
        ) from error


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json: put config.json, *.safetensors and the tokenizer's files there, or give the"
            " path of a .gguf file"
        )
    if not any(folder.glob("*.safetensors")):
        pickles = ", ".join(sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern)))
        found = f" (pickled weights such as {pickles} are not loaded: they can run code)" if pickles else ""
        raise ModelError(
            f"{folder} holds no safetensors weights{found}: put model.safetensors there, for instance by"
            " save_pretrained() on a machine that trusts the weights"
        )
