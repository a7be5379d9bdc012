"""Does a draft token stand? The acceptance rules, pure.

Letters: d draft token, x the distribution d was drawn from, y the LLM's, both shaped by the session's sampling contract.

residual  (speculative sampling; Eq. 1 of arXiv:2508.12590)
    accept d with probability min(1, y_d / x_d); else emit d* ~ norm(max(y − x, 0)).
    Then the token emitted is distributed as y, whatever x is.

coupled   (shared noise, no x on the air)
    draw d* = argmin(E / y) with the exponentials E that the drafter raced x with; accept iff d* = d, else emit d*.
    The token emitted is d* either way: the LLM's own draw.

A chain of L > 1 drafts that all stand earns a bonus token from the LLM, unless it ends the answer; a single draft earns none
(as in the paper).
A tree (coupled only) is walked by the LLM's own draws: the child that holds d* stands, and where there is none d* follows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from uihlm_basestation.engines.trees import ROOT, children
from uihlm_proto.codecs import Judge, ReceivedDraft
from uihlm_proto.randomness import Draws, Role
from uihlm_proto.sampling import Row, draw

FloatArray = npt.NDArray[np.float64]


class Figures(NamedTuple):
    """What a verdict tells of one draft besides its fate.

    Attributes:
        y_d: the LLM's probability of the draft.
        reject_probability: 1 − min(1, y_d / x_d); None where x is not known.
        total_variation: ½ Σ|x − y|; None where x is not known.
    """

    y_d: float
    reject_probability: float | None = None
    total_variation: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The word on one draft.

    Attributes:
        replacement: the token emitted in its place; None if the draft stands.
        figures: makes its figures; no token waits for them, so the engine may go on first.
    """

    replacement: int | None
    figures: Callable[[], Figures]


def judge_residual(d: int, x: FloatArray, y: FloatArray, u_accept: float, u_residual: float) -> Judgement:
    """Apply speculative sampling to draft d ~ x against y, both `[V]` and normalised; u's are uniform in (0, 1).

    The two uniforms must be independent of each other and of the noise that drew d: with shared noise the rule is biased.
    """
    x_d, y_d = float(x[d]), float(y[d])

    def figures(total_variation: float) -> Figures:
        return Figures(y_d, max(0.0, 1.0 - y_d / x_d), total_variation)

    # u·x_d ≤ y_d is u ≤ y_d/x_d without the division.
    if u_accept * x_d <= y_d:
        return Judgement(None, lambda: figures(_total_variation(x, y)))
    residual = _residual(x, y)
    total_variation = float(np.add.reduce(residual))
    # A residual of zero means x = y up to rounding: nothing to draw from.
    return Judgement(draw(residual, u_residual) if total_variation else None, lambda: figures(total_variation))


def _total_variation(x: FloatArray, y: FloatArray) -> float:
    """Return ½ Σ|x − y| as 1 − Σ min(x, y), which both sum to 1: a pass less than the sum of the residual."""
    return max(0.0, 1.0 - float(np.add.reduce(np.minimum(x, y))))


def _residual(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return max(y − x, 0), `[V]`; its sum is the total variation."""
    above = np.subtract(y, x)
    return np.maximum(above, 0.0, out=above)


def judge_coupled(d: int, y: Row, noise: npt.NDArray[np.uint64]) -> Judgement:
    """Race y with the shared words `[V]`; the draft stands iff it won here too."""
    own = y.race(noise)
    return Judgement(None if own == d else own, lambda: Figures(y.probability(d)))


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """The word on a chain of drafts.

    Attributes:
        judgements: of the drafts judged, in order: all that stand and the first that does not.
        accepted: how many stand.
        token: what follows them: the replacement, the bonus, or None.
    """

    judgements: tuple[Judgement, ...]
    accepted: int
    token: int | None


def earns_bonus(drafts: Sequence[ReceivedDraft], stop_ids: Collection[int]) -> bool:
    """Return whether a bonus token follows if every draft stands: two or more, the last of them no end of the answer."""
    return len(drafts) > 1 and drafts[-1].token not in stop_ids


def verify_chain(
    drafts: Sequence[ReceivedDraft],
    y_at: Callable[[int], Row],
    judge: Judge,
    draws: Draws,
    first_position: int,
    stop_ids: Collection[int] = (),
) -> ChainVerdict:
    """Judge drafts in order until one falls.

    Args:
        drafts: L ≥ 1 drafts, the first at `first_position`.
        y_at: y_at(i) is the LLM's row for draft i given the drafts before it; i = L is the bonus row and
            is asked for only where a bonus is earned.
        judge: the rule that fits the codec.
        draws: of the session's key.
        first_position: absolute position of the first draft.
        stop_ids: ids after which nothing follows.
    """
    judgements: list[Judgement] = []
    for i, draft in enumerate(drafts):
        position = first_position + i
        y = y_at(i)
        if judge is Judge.RESIDUAL:
            assert draft.x_hat is not None, "a codec judged by the residual rule sends x"
            judgement = judge_residual(
                draft.token,
                draft.x_hat,
                y.distribution(),
                draws.uniform(Role.ACCEPT, position),
                draws.uniform(Role.RESIDUAL, position),
            )
        else:
            judgement = judge_coupled(draft.token, y, draws.words(Role.GUMBEL, position, y.logits.size))
        judgements.append(judgement)
        if judgement.replacement is not None:
            return ChainVerdict(tuple(judgements), i, judgement.replacement)
    bonus = None
    if earns_bonus(drafts, stop_ids):
        position = first_position + len(drafts)
        y = y_at(len(drafts))
        if judge is Judge.RESIDUAL:
            bonus = draw(y.distribution(), draws.uniform(Role.BONUS, position))
        else:
            bonus = draw_alone(y, draws, position)
    return ChainVerdict(tuple(judgements), len(drafts), bonus)


@dataclass(frozen=True, slots=True)
class TreeVerdict:
    """The word on a tree of drafts.

    Attributes:
        path: the nodes that stand, from a root down.
        y_d: the LLM's probability of each.
        token: what follows them: the LLM's draw that no child holds; None if the path ends with a stop token.
    """

    path: tuple[int, ...]
    y_d: tuple[float, ...]
    token: int | None


def verify_tree(
    ids: Sequence[int],
    parents: Sequence[int],
    y_at: Callable[[int], Row],
    draws: Draws,
    first_position: int,
    stop_ids: Collection[int] = (),
) -> TreeVerdict:
    """Walk a tree of drafts by the LLM's own draws; every token that comes of it is one, as with policy `llm`.

    Args:
        ids: the tree's tokens; no two children of a node hold one token.
        parents: index of each node's parent, −1 for a root (uihlm_basestation.engines.trees).
        y_at: y_at(i) is the LLM's row after node i, y_at(−1) the one that the roots were drafted for.
        draws: of the session's key.
        first_position: absolute position of the roots.
        stop_ids: tokens that end an answer, and so the walk.
    """
    below = children(ids, parents)
    path: list[int] = []
    y_d: list[float] = []
    node = ROOT
    while True:
        y = y_at(node)
        token = draw_alone(y, draws, first_position + len(path))
        if token not in below.get(node, {}):
            return TreeVerdict(tuple(path), tuple(y_d), token)
        node = below[node][token]
        path.append(node)
        y_d.append(y.probability(token))
        if token in stop_ids:
            return TreeVerdict(tuple(path), tuple(y_d), None)


def prepare(draws: Draws, judge: Judge, position: int, vocabulary_size: int) -> None:
    """Make the draws that judging a draft at `position` may take, ahead of the LLM's word on it."""
    if judge is Judge.COUPLED:
        draws.prepare(Role.GUMBEL, position, vocabulary_size)
    else:
        # Remembered where they are made, with those of the positions around.
        for role in (Role.ACCEPT, Role.RESIDUAL):
            draws.uniform(role, position)


def draw_alone(y: Row, draws: Draws, position: int) -> int:
    """Return the LLM's own token at `position`: the race that judges coupled drafts, and all that policy `llm` is."""
    return y.race(draws.words(Role.GUMBEL, position, y.logits.size))
