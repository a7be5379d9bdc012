"""The quality of each answer of a run: against the data set's reference, its exact target, and the LLM's own answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_evaluation.quality.accuracy import accuracy
from uihlm_evaluation.quality.metrics import TextMetrics, TextScore


@dataclass(frozen=True, slots=True)
class Answer:
    """What is scored of one answer.

    Attributes:
        text: the answer.
        reference: the data set's; empty if it has none.
        target: the exact answer; None where many are right.
        llm_text: what the LLM alone answered to the same prompt; None where it did not, and for the LLM itself.
    """

    text: str
    reference: str
    target: str | None = None
    llm_text: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """Quality of one answer; None where there is nothing to compare with.

    Attributes:
        bertscore_f1, cosine_similarity: against the data set's reference.
        bertscore_f1_llm, cosine_similarity_llm: against the LLM's own answer.
        exact_match, last_number_accuracy: 1 if it gives the target, else 0.
    """

    bertscore_f1: float | None = None
    cosine_similarity: float | None = None
    bertscore_f1_llm: float | None = None
    cosine_similarity_llm: float | None = None
    exact_match: float | None = None
    last_number_accuracy: float | None = None

    @property
    def known(self) -> bool:
        """Whether there is any score."""
        return any(getattr(self, name) is not None for name in self.__slots__)


def score_answers(answers: Sequence[Answer], metrics: TextMetrics | None) -> list[AnswerScore]:
    """Return the scores of each answer; without `metrics` those of exact targets alone.

    The metrics are asked once for all pairs of texts, so that they encode no text twice.
    """
    none = TextScore(None, None)
    scores = [none] * (2 * len(answers))
    if metrics is not None:
        # Without a reference a pair scores nothing, and is not encoded.
        texts = [answer.text for answer in answers]
        references = [answer.reference for answer in answers] + [answer.llm_text or "" for answer in answers]
        scores = metrics.score(texts + texts, references)
    result = []
    for answer, own, llm in zip(answers, scores[: len(answers)], scores[len(answers) :], strict=True):
        right = accuracy(answer.text, answer.target)
        result.append(
            AnswerScore(
                own.bertscore_f1,
                own.cosine_similarity,
                llm.bertscore_f1,
                llm.cosine_similarity,
                right.exact_match,
                right.last_number,
            )
        )
    return result
