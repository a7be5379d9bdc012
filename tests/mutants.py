"""Defects that published code ships, each put into the smallest function that holds it.

A mutant takes pytest's monkeypatch and breaks the code for one test. Tests of losslessness must fail on every one of
them: a test that passes on a wrong acceptance rule proves nothing about a right one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from uihlm_basestation import session, verification
from uihlm_basestation.verification import ChainVerdict, Figures, Judgement
from uihlm_proto.codecs import CodedDraft, DenseCodec, Judge, LatticeCodec, ReceivedDraft
from uihlm_proto.codecs.grid import Point
from uihlm_proto.codecs.quantisation import likeliest, quantise
from uihlm_proto.randomness import Draws, Role, uniform, words
from uihlm_proto.sampling import Row, draw, race

FloatArray = npt.NDArray[np.float64]
Mutant = Callable[[pytest.MonkeyPatch], None]
# accepts(d, x, y, u) and replacement weights(d, x, y) `[V]`
Accepts = Callable[[int, FloatArray, FloatArray, float], bool]
Weights = Callable[[int, FloatArray, FloatArray], FloatArray]

TOP_K = 4
STOP = 11


def _top(p: FloatArray) -> FloatArray:
    """Mark the TOP_K likeliest tokens, `[V]`."""
    kept = np.zeros(p.size, bool)
    kept[np.argsort(-p, kind="stable")[:TOP_K]] = True
    return kept


def _right_accepts(d: int, x: FloatArray, y: FloatArray, u: float) -> bool:
    return u * x[d] <= y[d]


def _right_residual(d: int, x: FloatArray, y: FloatArray) -> FloatArray:
    return np.maximum(y - x, 0.0)


def _judging(accepts: Accepts = _right_accepts, residual: Weights = _right_residual) -> Mutant:
    """A residual judge with one part exchanged."""

    def judge(d: int, x: FloatArray, y: FloatArray, u_accept: float, u_residual: float) -> Judgement:
        weights = residual(d, x, y)
        figures = Figures(float(y[d]), max(0.0, 1.0 - float(y[d] / x[d])), float(np.maximum(y - x, 0.0).sum()))
        stands = accepts(d, x, y, u_accept) or not weights.any()
        return Judgement(None if stands else draw(weights, u_residual), lambda: figures)

    return lambda patch: patch.setattr(verification, "judge_residual", judge)


def _seeing_another_y(seen: Callable[[FloatArray], FloatArray]) -> Mutant:
    """The right judge, told something else than the LLM's distribution."""
    right = verification.judge_residual

    def judge(d: int, x: FloatArray, y: FloatArray, u_accept: float, u_residual: float) -> Judgement:
        return right(d, x, seen(y), u_accept, u_residual)

    return lambda patch: patch.setattr(verification, "judge_residual", judge)


def _one_hot(y: FloatArray) -> FloatArray:
    """What `logprobs=1` tells of y: its largest value, and next to nothing of the rest."""
    told = np.full(y.size, 1e-6)
    told[np.argmax(y)] = y.max()
    return told / told.sum()


def _sending(sent: Callable[[FloatArray, int], FloatArray]) -> Mutant:
    """A codec that draws d from x and then sends another distribution."""

    def draft(self: DenseCodec, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        token = draw(x, uniform(key, Role.DRAFT, position))
        x_hat = sent(x, token)
        x_hat = x_hat / x_hat.sum()
        payload = token.to_bytes(1, "little") + x_hat.astype(self.dtype).tobytes()
        return CodedDraft(token, x_hat, lambda: payload)

    return lambda patch: patch.setattr(DenseCodec, "draft", draft)


def _truncated_after(x: FloatArray, d: int) -> FloatArray:
    kept = _top(x)
    kept[d] = True
    return np.where(kept, x, 0.0)


def _quantised_after(patch: pytest.MonkeyPatch) -> None:
    """Draw d from x, then send the grid point nearest to x on a support that holds d, with a count for d."""

    def draft(self: LatticeCodec, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        (grid,) = self.grids
        token = draw(x, uniform(key, Role.DRAFT, position))
        support = likeliest(x, grid.k)
        if token not in support:
            support[-1] = token
        point = quantise(x, support, grid.steps)
        index, counts = point.support.tolist().index(token), point.counts
        if counts[index] == 0:
            counts[index] += 1
            counts[counts.argmax()] -= 1
        number = grid.number(Point(point.support.tolist(), counts.tolist(), index))
        x_hat = np.zeros(x.size)
        x_hat[point.support] = counts / grid.steps
        return CodedDraft(token, x_hat, lambda: number.to_bytes(self.max_payload_bytes, "little"))

    patch.setattr(LatticeCodec, "draft", draft)


def _top_read_as_all(patch: pytest.MonkeyPatch) -> None:
    """A base station that spreads a little mass over the tokens left out, as if x had to be positive everywhere."""
    right = LatticeCodec.decode

    def decode(self: LatticeCodec, payload: bytes) -> ReceivedDraft:
        received = right(self, payload)
        assert received.x_hat is not None
        return ReceivedDraft(received.token, received.x_hat * 0.8 + 0.2 / self.vocabulary_size)

    patch.setattr(LatticeCodec, "decode", decode)


def _drawing(role_of: dict[Role, Role]) -> Mutant:
    """A base station whose draws share noise they must not share."""

    def shared(self: Draws, role: Role, position: int) -> float:
        return uniform(self._key, role_of.get(role, role), position)

    return lambda patch: patch.setattr(Draws, "uniform", shared)


def _reseeded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draws, "uniform", lambda self, role, position: uniform(self._key, Role.ACCEPT, position))


def _reseeded_each_token(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draws, "uniform", lambda self, role, position: uniform(self._key, role, 0))


def _race_noise_reused(patch: pytest.MonkeyPatch) -> None:
    """Draft and replacement raced with the same exponentials under the residual judge."""
    at: list[tuple[bytes, int]] = []

    def draft(self: DenseCodec, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        token = race(x, words(key, Role.GUMBEL, position, x.size))
        payload = token.to_bytes(1, "little") + x.astype(self.dtype).tobytes()
        return CodedDraft(token, x, lambda: payload)

    def remembering(self: Draws, role: Role, position: int) -> float:
        at[:] = [(self._key, position)]
        return uniform(self._key, role, position)

    def raced(weights: FloatArray, u: float) -> int:
        key, position = at[0]
        return race(weights, words(key, Role.GUMBEL, position, weights.size))

    patch.setattr(DenseCodec, "draft", draft)
    patch.setattr(Draws, "uniform", remembering)
    patch.setattr(verification, "draw", raced)


def _sample_and_match(patch: pytest.MonkeyPatch) -> None:
    """The LLM draws on its own and the draft stands if it is the same token: right, and wasteful."""

    def judge(d: int, x: FloatArray, y: FloatArray, u_accept: float, u_residual: float) -> Judgement:
        own = draw(y, u_accept)
        return Judgement(None if own == d else own, lambda: Figures(float(y[d]), 0.0, 0.0))

    patch.setattr(verification, "judge_residual", judge)


def _private_race(patch: pytest.MonkeyPatch) -> None:
    """A base station that races y with noise the device did not use."""
    patch.setattr(Draws, "words", lambda self, role, position, count: words(self._key, Role.BONUS, position, count))


def _race_reseeded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draws, "words", lambda self, role, position, count: words(self._key, role, 0, count))


def _plausible_drafts_stand(patch: pytest.MonkeyPatch) -> None:
    """Typical acceptance: whatever the LLM finds possible is let through."""
    right = verification.judge_coupled

    def judge(d: int, y: Row, noise: npt.NDArray[np.uint64]) -> Judgement:
        judged = right(d, y, noise)
        return Judgement(None, judged.figures) if y.probability(d) > 0.02 else judged

    patch.setattr(verification, "judge_coupled", judge)


def _noise_shifted(patch: pytest.MonkeyPatch) -> None:
    """Noise by index in a list of candidates, not by token id: the rejected draft is left out and the rest shifts."""
    right = verification.judge_coupled

    def judge(d: int, y: Row, noise: npt.NDArray[np.uint64]) -> Judgement:
        first = right(d, y, noise)
        if first.replacement is None:
            return first
        p = y.distribution()
        others = np.flatnonzero(np.arange(p.size) != d)
        return Judgement(int(others[race(p[others], noise[: others.size])]), first.figures)

    patch.setattr(verification, "judge_coupled", judge)


def stale_row(patch: pytest.MonkeyPatch) -> None:
    """A session that judges with the LLM's distribution of one position before."""
    right = verification.verify_chain
    last: dict[Draws, Row] = {}

    def late(
        drafts: Sequence[ReceivedDraft],
        y_at: Callable[[int], Row],
        judge: Judge,
        draws: Draws,
        first_position: int,
        stop_ids: Collection[int] = (),
    ) -> ChainVerdict:
        now = y_at(0)
        before = last.get(draws, now)
        last[draws] = now
        return right(drafts, lambda i: before, judge, draws, first_position, stop_ids)

    patch.setattr(session, "verify_chain", late)


@dataclass(frozen=True, slots=True)
class Defect:
    """A mutant, and how many tokens show it: about twice the chi-square that p = 1e-6 takes."""

    mutant: Mutant
    tokens: int


# Of the residual judge and of what a dense codec sends it.
RESIDUAL: dict[str, Defect] = {
    "acceptance ratio inverted": Defect(_judging(accepts=lambda d, x, y, u: u * y[d] <= x[d]), 300),
    "x truncated after the draft was drawn": Defect(_sending(_truncated_after), 1500),
    "scalar x_d in place of x in the residual": Defect(
        _judging(residual=lambda d, x, y: np.maximum(y - x[d], 0.0)), 600
    ),
    "x known at d alone in the residual": Defect(
        _judging(residual=lambda d, x, y: np.maximum(y - np.where(np.arange(x.size) == d, x, 0.0), 0.0)), 2000
    ),
    "the draft's noise reused for acceptance": Defect(_drawing({Role.ACCEPT: Role.DRAFT}), 600),
    "the draft's noise reused for the residual": Defect(_drawing({Role.RESIDUAL: Role.DRAFT}), 1200),
    "the draft's race noise reused for the residual": Defect(_race_noise_reused, 6000),
    "drafts outside the top-k always accepted": Defect(
        _judging(accepts=lambda d, x, y, u: not _top(x)[d] or u * x[d] <= y[d]), 800
    ),
    "stop drafts accepted by force": Defect(_judging(accepts=lambda d, x, y, u: d == STOP or u * x[d] <= y[d]), 2500),
    "y nearly one-hot": Defect(_seeing_another_y(_one_hot), 100),
    "exact match with the LLM's best token": Defect(
        _judging(
            accepts=lambda d, x, y, u: d == int(np.argmax(y)),
            residual=lambda d, x, y: (np.arange(y.size) == np.argmax(y)).astype(float),
        ),
        100,
    ),
    "residual from logits": Defect(_judging(residual=lambda d, x, y: np.maximum(np.log(y) - np.log(x), 0.0)), 1500),
    "residual without max(., 0)": Defect(_judging(residual=lambda d, x, y: np.abs(y - x)), 600),
    "replacement drawn from y itself": Defect(_judging(residual=lambda d, x, y: y), 1500),
    "one number for acceptance and residual": Defect(_reseeded, 4000),
    "re-seeded before every token": Defect(_reseeded_each_token, 600),
}

# Of a lattice with K = 4, ℓ = 16, and of the judge on what it sends.
LATTICE: dict[str, Defect] = {
    "x quantised after the draft was drawn": Defect(_quantised_after, 1500),
    "mass spread over what the support leaves out": Defect(_top_read_as_all, 1500),
    "acceptance ratio inverted": RESIDUAL["acceptance ratio inverted"],
    "the draft's noise reused for acceptance": Defect(_drawing({Role.ACCEPT: Role.DRAFT}), 1200),
    "replacement drawn from y itself": RESIDUAL["replacement drawn from y itself"],
}

# Of the coupled judge.
COUPLED: dict[str, Defect] = {
    "plausible drafts stand": Defect(_plausible_drafts_stand, 600),
    "noise shifted when the draft loses": Defect(_noise_shifted, 1500),
    "re-seeded before every token": Defect(_race_reseeded, 600),
}

# Right in distribution, but fewer drafts stand than should: codec and mutant.
WASTEFUL: dict[str, tuple[str, Defect]] = {
    "sample and match": ("dense32", Defect(_sample_and_match, 300)),
    "noise not shared": ("coupled", Defect(_private_race, 300)),
}
