"""Laws of whole answers: noise that is the same at every position, or under every seed.

same noise at every position   what followed a token once in an answer follows it again
same noise for the judge       P(answer) = ∫∫ Π_t q(t | last; u_accept, u_residual) du du, draws by inversion
seed ignored                   an answer repeats the one to its prompt under another seed
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from uihlm_evaluation.referee.laws import Likelihood, log_mean
from uihlm_evaluation.referee.noise import overlap, pieces
from uihlm_evaluation.referee.sample import Answer, Sample
from uihlm_evaluation.referee.stage import FloatArray, Stage
from uihlm_evaluation.referee.steps import ratio, residual

# How sure a law is that a token repeats; the rest is left to y.
_SURE = 0.99
_DOUBT = 1e-3
_GRID = 40


class ReseededLaw:
    """The noise of every position of an answer is the same: all of it, or the judge's."""

    def likelihood(self, sample: Sample, stage: Stage) -> Likelihood:
        """Return how likely a sample is."""
        judge = _judge_table(stage)
        every = sum(_repeated(_again(answer), answer, stage) for answer in sample.answers)
        own = sum(log_mean(judge[:, answer.last, answer.tokens].sum(axis=1)) for answer in sample.answers)
        return Likelihood(log_mean(np.array([every, own])), None)

    def tables(self, stage: Stage) -> None:
        """None: each token has the right law."""


class SeedLaw:
    """Answers to one prompt are the same under every seed."""

    def likelihood(self, sample: Sample, stage: Stage) -> Likelihood:
        """Return how likely a sample is."""
        first: dict[int, Answer] = {}
        log = 0.0
        for answer in sample.answers:
            log += _repeated(_as_before(answer, first.setdefault(answer.prompt, answer)), answer, stage)
        return Likelihood(log, None)

    def tables(self, stage: Stage) -> None:
        """None: each token has the right law."""


def _repeated(expected: Iterator[int | None], answer: Answer, stage: Stage) -> float:
    """Return log P of an answer's tokens, each of which is surely the one expected, or drawn from y."""
    log = 0.0
    for token, last, again in zip(answer.tokens, answer.last, expected, strict=True):
        drawn = stage.y[last, token]
        log += np.log(drawn if again is None else (1.0 - _SURE) * drawn + _SURE * (again == token))
    return float(log)


def _again(answer: Answer) -> Iterator[int | None]:
    """Yield what followed the last token before in this answer, if it came up."""
    followed: dict[int, int] = {}
    for token, last in zip(answer.tokens.tolist(), answer.last.tolist(), strict=True):
        yield followed.get(last)
        followed.setdefault(last, token)


def _as_before(answer: Answer, first: Answer) -> Iterator[int | None]:
    """Yield the first answer's tokens for as long as this one follows it."""
    follows = answer is not first
    for place, token in enumerate(answer.tokens.tolist()):
        known = follows and place < len(first.tokens)
        yield int(first.tokens[place]) if known else None
        follows = known and token == first.tokens[place]


def _judge_table(stage: Stage) -> FloatArray:
    """Return log q(token | last; u_accept, u_residual), `[grid point, last, token]`."""
    grid = (np.arange(_GRID) + 0.5) / _GRID
    points = np.stack([grid, grid + 1e-9], axis=1)
    rows = []
    for x, y in zip(stage.x, stage.y, strict=True):
        stands = x * (grid[:, None] <= ratio(x, y))  # [u_accept, token]
        falls = 1.0 - stands.sum(axis=1)
        # A point lies in the piece of the token that the residual gives there.
        given = (overlap(points, pieces(residual(x, y))) > 0.0).astype(float)  # [u_residual, token]
        given /= np.maximum(given.sum(axis=1, keepdims=True), 1.0)
        law = stands[:, None, :] + falls[:, None, None] * given[None]
        rows.append(np.log((1.0 - _DOUBT) * law + _DOUBT / x.size).reshape(-1, x.size))
    return np.stack(rows, axis=1)
