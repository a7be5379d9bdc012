"""What a decode loop wrote: answers under seeds of their own, as counts and as sequences."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from uihlm_evaluation.referee.stage import FloatArray, Model, RefereeError, Stage

ANSWER_TOKENS = 100
# Answers to one prompt under different seeds must differ; so there are few prompts.
PROMPTS = 5

IntArray = npt.NDArray[np.int64]


class Decode(Protocol):
    """A decode loop under test."""

    def __call__(self, x: Model, y: Model, prompt: Sequence[int], max_tokens: int, seed: int) -> Sequence[int]:
        """Return `max_tokens` new ids after the prompt.

        Args:
            x: the drafter's distribution after the ids of a text.
            y: the target's.
            prompt: ids, two or more.
            max_tokens: how many ids to write; no id ends an answer.
            seed: of all noise of this answer.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One answer.

    Attributes:
        prompt: which one.
        line: its ids and then those that were written.
        start: where these begin.
    """

    prompt: int
    line: IntArray
    start: int

    @property
    def tokens(self) -> IntArray:
        """The ids written, `[n]`."""
        return self.line[self.start :]

    @property
    def last(self) -> IntArray:
        """The id before each, `[n]`."""
        return self.line[self.start - 1 : -1]

    @property
    def before_last(self) -> IntArray:
        """The id before that, `[n]`."""
        return self.line[self.start - 2 : -2]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """All answers.

    Attributes:
        answers: in order of seed.
        counts: how often each token followed each two, `[before last, last, token]`.
    """

    answers: tuple[Answer, ...]
    counts: FloatArray

    @property
    def tokens(self) -> int:
        """How many ids were written."""
        return int(self.counts.sum())


def sampled(decode: Decode, stage: Stage, tokens: int, seed: int) -> Sample:
    """Have a loop write answers until there are `tokens` ids.

    Raises:
        RefereeError: if an answer has another length than asked for, or holds what is no id.
    """
    if tokens < 1:
        raise RefereeError(f"a referee needs at least one token, got {tokens}")
    size = len(stage.y)
    generator = np.random.default_rng([seed % 2**64, 1])
    prompts = [generator.integers(0, size, 2 + number).tolist() for number in range(PROMPTS)]
    x, y = stage.drafter(), stage.target()
    counts = np.zeros((size, size, size))
    answers = []
    for number, first in enumerate(range(0, tokens, ANSWER_TOKENS)):
        which, length = number % PROMPTS, min(ANSWER_TOKENS, tokens - first)
        written = _ids(decode(x, y, list(prompts[which]), length, seed + number), length, size)
        answer = Answer(which, np.array([*prompts[which], *written]), len(prompts[which]))
        np.add.at(counts, (answer.before_last, answer.last, answer.tokens), 1.0)
        answers.append(answer)
    return Sample(tuple(answers), counts)


def _ids(written: Sequence[int], length: int, size: int) -> list[int]:
    try:
        ids = [operator.index(token) for token in written]
    except TypeError as error:
        raise RefereeError(f"the loop must return a sequence of ids, got {written!r:.80} ({error})") from error
    if len(ids) != length:
        raise RefereeError(f"the loop was asked for {length} tokens and returned {len(ids)}: cut longer answers")
    wrong = [token for token in ids if not 0 <= token < size]
    if wrong:
        raise RefereeError(f"the loop returned id {wrong[0]}: ids are 0 … {size - 1}")
    return ids
