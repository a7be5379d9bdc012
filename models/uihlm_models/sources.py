"""From what `--model` says to weights on this machine.

`--model` takes, tried in this order: a preset (presets.py); a path of a GGUF file; a local Hugging Face folder; a hub
id `owner/name[@revision]` (safetensors) or `owner/name/file.gguf[@revision]` (one GGUF file). Hub files are fetched as
data only: code from a repository is never fetched or run.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from uihlm_models import bundled
from uihlm_models.errors import ModelError
from uihlm_models.paths import expanded
from uihlm_models.presets import BUNDLED, HUB_PRESETS, PRESETS, HubModel, Role

# Weights, configuration and tokenizer; never code or pickles.
_TORCH_FILES = ("*.safetensors", "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt")
_HUB_ID = re.compile(r"^(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+\.gguf))?(?:@(?P<revision>[\w./-]+))?$")


class Kind(enum.Enum):
    """The form of the weights, which decides the library that runs them."""

    GGUF = "gguf"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Weights on this machine.

    Attributes:
        kind: GGUF (llama.cpp) or a Hugging Face folder (Torch).
        path: the GGUF file, or the folder.
        label: what the user reads, in logs and results.
        repository: `owner/name` on the hub; None if it did not come from there.
        revision: the branch, tag or commit asked for; None if it did not come from the hub.
        commit: the commit that was fetched; None if it did not come from the hub.
    """

    kind: Kind
    path: Path
    label: str
    repository: str | None = None
    revision: str | None = None
    commit: str | None = None


def resolve(model: str, role: Role) -> ModelSource:
    """Return the weights that `model` names for one end of the link, fetched if they live on the hub.

    Raises:
        ModelError: if nothing of that name is here and the hub does not give it; the message says what to put where.
    """
    if model == BUNDLED:
        if role is Role.DRAFTER:
            blocks = f"{bundled.LEFT_OUT_BLOCKS.start}–{bundled.LEFT_OUT_BLOCKS.stop - 1}"
            return ModelSource(Kind.GGUF, bundled.slm_path(), f"bundled: SmolLM2-135M-Instruct without blocks {blocks}")
        return ModelSource(Kind.GGUF, bundled.llm_path(), "bundled: SmolLM2-135M-Instruct")
    if model in HUB_PRESETS:
        return _from_hub(HUB_PRESETS[model][role])
    path = expanded(model)
    if path.is_file():
        return _from_file(path)
    if path.is_dir():
        return _from_folder(path)
    match = _HUB_ID.match(model)
    # A dot or slash in front, or a file's ending, means a path: the hub would only answer with a stranger's words.
    if match is None or model.startswith((".", "/", "~")) or (model.endswith(".gguf") and match["file"] is None):
        raise ModelError(
            f"no model {model!r}: it is no preset ({', '.join(PRESETS)}), no file or folder here, and no hub id"
            " (owner/name)"
        )
    return _from_hub(HubModel(match["repository"], match["file"], match["revision"] or "main"))


def file_sha256(source: ModelSource) -> str:
    """Return the SHA-256 of the weights in hexadecimal, for results.

    Of a GGUF, that of the file; of a folder, that of the lines `name sha256` of its safetensors files in order of name.
    """
    if source.kind is Kind.GGUF:
        return bundled.file_digest(source.path)
    digest = hashlib.sha256()
    for path in sorted(source.path.glob("*.safetensors")):
        digest.update(f"{path.name} {bundled.file_digest(path)}\n".encode())
    return digest.hexdigest()


def _from_file(path: Path) -> ModelSource:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file: give a .gguf file or a Hugging Face folder")
    return ModelSource(Kind.GGUF, path.resolve(), path.name)


def _from_folder(path: Path) -> ModelSource:
    if not (path / "config.json").is_file():
        inside = ", ".join(sorted(file.name for file in path.glob("*.gguf"))[:3])
        hint = f"name one of its GGUF files ({inside})" if inside else "give a folder that holds a Hugging Face model"
        raise ModelError(f"{path} has no config.json: {hint}")
    return ModelSource(Kind.TORCH, path.resolve(), path.resolve().name)


def _from_hub(model: HubModel) -> ModelSource:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        if model.file is not None:
            kind = Kind.GGUF
            path = Path(hf_hub_download(model.repository, model.file, revision=model.revision))
        else:
            kind = Kind.TORCH
            patterns = list(_TORCH_FILES)
            path = Path(snapshot_download(model.repository, revision=model.revision, allow_patterns=patterns))
    # The hub's errors are OSErrors (no connection, not there, gated) or ValueErrors (a malformed id); its HTTP client's
    # own are neither.
    except (OSError, ValueError, HTTPError) as error:
        raise ModelError(_cannot_fetch(model, error)) from error
    if kind is Kind.TORCH and not any(path.glob("*.safetensors")):
        raise ModelError(
            f"{model} holds no safetensors weights: for a GGUF repository name the file, as in"
            f" {model.repository}/FILE.gguf"
        )
    return ModelSource(kind, path, str(model), model.repository, model.revision, _commit(path))


def _commit(path: Path) -> str | None:
    """Return the commit of a file in the hub's cache, whose folders are `…/snapshots/<commit>/…`."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _cannot_fetch(model: HubModel, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError

    page = f"https://huggingface.co/{model.repository}"
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, GatedRepoError):
        return (
            f"{model} is gated: accept its licence at {page}, log in with `hf auth login`, and try again; or download"
            " it elsewhere and give its folder as --model"
        )
    what = f"the file {model.file}" if model.file is not None else "the whole repository (safetensors, json, tokenizer)"
    return (
        f"{model} cannot be fetched from the model hub ({type(error).__name__}: {reason}). Without a connection,"
        f" download {what} from {page} on another machine, copy it here, and give its path as --model;"
        f" or use --model {BUNDLED}"
    )
