"""How close an answer is to its reference: BERTScore F1 and cosine similarity (CS), both as fractions.

BERTScore (Zhang et al., arXiv:1904.09675), with h and r the encoder's token states of answer and reference:

    P = mean_i max_j cos(h_i, r_j)     R = mean_j max_i cos(h_i, r_j)     F1 = 2·P·R/(P + R)

no idf weights, not rescaled with a baseline (as the paper's 85 … 88 % must be); the two pieces that frame a text may be
matched, but carry no weight. CS = cos(e(answer), e(reference)), with e the all-MiniLM-L6-v2 sentence embedding: mean of
the last states over the pieces.

Scores of two encoders do not compare: `TextMetrics.hash` tells them apart and goes with every score. Every distinct text
is encoded once a call, with texts of its own length, and where both scores have one encoder in one forward.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from uihlm_evaluation.quality.encoders import MINILM, ROBERTA, Encoder, MetricError, choose, load_encoder, minilm_folder

__all__ = ["Encoder", "MetricError", "TextMetrics", "TextScore"]

# The layer whose states BERTScore compares. 17 is bert-score's own for roberta-large. It names none for MiniLM; of the
# six layers of the encoder of that depth that it does know (distilbert) it takes the fifth.
_LAYERS = {ROBERTA: 17, MINILM: 5}
# The length that all-MiniLM-L6-v2 states for its embeddings, in word pieces.
_MAX_SENTENCE_PIECES = 256
# Padded pieces of one forward: more is no faster on a CPU, and takes more memory.
_BATCH_PIECES = 4096


@dataclass(frozen=True, slots=True)
class TextScore:
    """Scores of one answer, 0 … 1 (CS may fall below 0); None where there is no reference to compare with."""

    bertscore_f1: float | None
    cosine_similarity: float | None


@dataclass(frozen=True, slots=True)
class _Encoded:
    """One text.

    Attributes:
        states: unit token states of BERTScore's encoder `[piece, width]`.
        weight: 1 for each piece, 0 for those that frame the text `[piece]`.
        embedding: unit sentence embedding `[384]`.
    """

    states: Any
    weight: Any
    embedding: Any


class TextMetrics:
    """Scores answers against references on the CPU; every distinct pair is computed once, over all calls.

    Attributes:
        encoder: BERTScore's encoder.
        hash: bert-score's settings hash, with the encoder's name in place of any path.
        notice: what the user must be told of the choice of encoder; None if it is bert-score's default.
        on_progress: called with (texts encoded, texts to encode) during a call of `score`.
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

        minilm = minilm_folder()
        self.encoder, folder, self.notice = choose(encoder, minilm)
        self.on_progress: Callable[[int, int], None] = lambda done, total: None
        self._layers = _LAYERS[self.encoder]
        self.hash: str = get_hash(self.encoder, self._layers, False, False, False, False)
        self._sentence_model, self._sentence_tokenizer = load_encoder(minilm)
        if self.encoder == MINILM:
            self._model, self._tokenizer = self._sentence_model, self._sentence_tokenizer
        else:
            self._model, self._tokenizer = load_encoder(folder)
            self._model.encoder.layer = self._model.encoder.layer[: self._layers]
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
        self._compute({pair for pair in pairs if all(pair)} - self._known.keys())
        return [self._known[pair] if all(pair) else _EMPTY_CANDIDATE if pair[1] else _NO_REFERENCE for pair in pairs]

    def _compute(self, pairs: Collection[tuple[str, str]]) -> None:
        partners: defaultdict[str, list[str]] = defaultdict(list)
        for candidate, reference in sorted(pairs):
            partners[candidate].append(reference)
        # References are met by many answers: their states are kept, those of an answer only while it is scored.
        references = {reference for _, reference in pairs}
        others = partners.keys() - references
        total = len(references) + len(others)
        kept: dict[str, _Encoded] = {}
        for text, encoded in self._encoded(references):
            kept[text] = encoded
            self.on_progress(len(kept), total)
        for text in partners.keys() & references:
            self._match(text, kept[text], partners[text], kept)
        for number, (text, encoded) in enumerate(self._encoded(others), start=1):
            self._match(text, encoded, partners[text], kept)
            self.on_progress(len(kept) + number, total)

    def _match(self, text: str, own: _Encoded, references: Sequence[str], kept: dict[str, _Encoded]) -> None:
        for name in references:
            other = kept[name]
            # float32 rounds above 1.
            cosine = min(1.0, float(own.embedding @ other.embedding))
            self._known[text, name] = TextScore(min(1.0, _f1(own, other)), cosine)

    def _encoded(self, texts: Collection[str]) -> Iterator[tuple[str, _Encoded]]:
        """Yield every text with its encoding, the longest first, so that memory runs out at once or never."""
        import torch
        from bert_score.utils import sent_encode

        ids = {text: sent_encode(self._tokenizer, text) for text in texts}
        framing = torch.tensor([self._tokenizer.cls_token_id, self._tokenizer.sep_token_id])
        for batch in _batches(ids):
            padded, mask = self._padded([ids[text] for text in batch], self._tokenizer)
            with torch.inference_mode():
                output = self._model(input_ids=padded, attention_mask=mask, output_hidden_states=True)
                states = torch.nn.functional.normalize(output.hidden_states[self._layers], dim=2)
                shared = self._model is self._sentence_model and padded.shape[1] <= _MAX_SENTENCE_PIECES
                embeddings = _mean_state(output.last_hidden_state, mask) if shared else self._sentence_embeddings(batch)
            for index, text in enumerate(batch):
                length = len(ids[text])
                weight = (~torch.isin(padded[index, :length], framing)).to(states.dtype)
                # A copy: a view would keep the states of its whole batch.
                yield text, _Encoded(states[index, :length].clone(), weight, embeddings[index])

    def _sentence_embeddings(self, texts: Sequence[str]) -> Any:
        """Return unit sentence embeddings, `[text, 384]`, each of the first pieces of its text."""
        pieces = [
            self._sentence_tokenizer.encode(text, truncation=True, max_length=_MAX_SENTENCE_PIECES) for text in texts
        ]
        padded, mask = self._padded(pieces, self._sentence_tokenizer)
        return _mean_state(self._sentence_model(input_ids=padded, attention_mask=mask).last_hidden_state, mask)

    @staticmethod
    def _padded(ids: Sequence[Sequence[int]], tokenizer: Any) -> tuple[Any, Any]:
        """Return ids and mask `[text, piece]`."""
        import torch

        length = max(map(len, ids))
        padding = tokenizer.pad_token_id or 0
        rows = [[*row, *[padding] * (length - len(row))] for row in ids]
        marks = [[1] * len(row) + [0] * (length - len(row)) for row in ids]
        return torch.tensor(rows), torch.tensor(marks)


# bert-score 0.3.13 fails on an empty candidate under transformers 5, and gives it 0 under 4.
_EMPTY_CANDIDATE = TextScore(0.0, 0.0)
_NO_REFERENCE = TextScore(None, None)


def _batches(ids: dict[str, list[int]]) -> Iterator[list[str]]:
    """Yield the texts in batches of like length, the longest first."""
    batch: list[str] = []
    for text in sorted(ids, key=lambda text: (-len(ids[text]), text)):
        if batch and (len(batch) + 1) * len(ids[batch[0]]) > _BATCH_PIECES:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def _mean_state(states: Any, mask: Any) -> Any:
    """Return the unit mean of states `[text, piece, width]` over the pieces that are there."""
    import torch

    weight = mask.unsqueeze(-1).to(states.dtype)
    return torch.nn.functional.normalize((states * weight).sum(dim=1) / weight.sum(dim=1), dim=1)


def _f1(answer: _Encoded, reference: _Encoded) -> float:
    """Return BERTScore's F1; 0 where one of the texts has no piece of its own."""
    likeness = answer.states @ reference.states.T  # [piece of answer, piece of reference]
    precision = float(likeness.amax(dim=1) @ answer.weight / answer.weight.sum())
    recall = float(likeness.amax(dim=0) @ reference.weight / reference.weight.sum())
    return 2.0 * precision * recall / (precision + recall) if precision + recall > 0.0 else 0.0
