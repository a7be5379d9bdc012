"""The acceptance rules against Eq. (1) by brute force, and the order of a chain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from known_rows import Known
from uihlm_basestation.verification import draw_alone, judge_coupled, judge_residual, verify_chain
from uihlm_proto.codecs import Judge, ReceivedDraft, codec
from uihlm_proto.randomness import Draws, Role, session_key, to_uniform, uniform, words
from uihlm_proto.sampling import Row, Sampling, draw

KEY = session_key(6, 1)
GRID = (np.arange(500) + 0.5) / 500

weights = st.lists(st.integers(0, 20), min_size=2, max_size=6)


def random_distribution(rng, size, zeros=0):
    p = rng.dirichlet(np.full(size, 0.7))
    p[rng.permutation(size)[:zeros]] = 0.0
    return p / p.sum()


def integrated_over_both_uniforms(x, y):
    """The distribution of the token emitted when d ~ x, both uniforms run over a grid."""
    emitted = np.zeros(y.size)
    for d in map(int, np.flatnonzero(x)):
        judged = [judge_residual(d, x, y, float(u), 0.5) for u in GRID]
        rejected = sum(j.replacement is not None for j in judged)
        emitted[d] += x[d] * (1 - rejected / GRID.size)
        if rejected:
            redrawn = [judge_residual(d, x, y, float(GRID[-1]), float(v)).replacement for v in GRID]
            emitted += x[d] * rejected / GRID.size * np.bincount(redrawn, minlength=y.size) / GRID.size
    return emitted


@pytest.mark.parametrize("seed", range(8))
def test_the_token_emitted_is_distributed_as_y_whatever_x(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 6))
    x, y = random_distribution(rng, size), random_distribution(rng, size, zeros=int(seed % 2 and size > 2))
    assert integrated_over_both_uniforms(x, y) == pytest.approx(y, abs=2.5 / GRID.size)


@pytest.mark.parametrize("seed", range(5))
def test_a_draft_is_accepted_with_min_1_y_over_x(seed):
    rng = np.random.default_rng(seed)
    x, y = random_distribution(rng, 5), random_distribution(rng, 5)
    for d in range(5):
        accepted = np.mean([judge_residual(d, x, y, float(u), 0.3).replacement is None for u in GRID])
        assert accepted == pytest.approx(min(1.0, y[d] / x[d]), abs=1.0 / GRID.size)


@settings(deadline=None)
@given(x=weights.filter(any), y=weights.filter(any), data=st.data())
def test_replacements_come_from_the_positive_part_of_y_minus_x(x, y, data):
    size = min(len(x), len(y))
    x, y = np.array(x[:size], float) + 1e-3, np.array(y[:size], float) + 1e-3
    x, y = x / x.sum(), y / y.sum()
    d = data.draw(st.integers(0, size - 1))
    u = st.floats(0, 1, exclude_min=True, exclude_max=True)
    u_accept, u_residual = data.draw(u), data.draw(u)
    judged = judge_residual(d, x, y, u_accept, u_residual)
    if judged.replacement is not None:
        assert judged.replacement != d
        assert y[judged.replacement] > x[judged.replacement]
        residual = np.maximum(y - x, 0.0)
        assert judged.replacement == draw(residual / residual.sum(), u_residual)


def test_the_residual_is_eq_1():
    """x = (0.7, 0.2, 0.1), y = (0.1, 0.6, 0.3): the residual is (0, 0.4, 0.2)/0.6, so two thirds of redraws are token 1."""
    x, y = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.6, 0.3])
    redrawn = [judge_residual(0, x, y, 0.99, float(v)).replacement for v in GRID]
    assert redrawn.count(1) / len(redrawn) == pytest.approx(2 / 3, abs=1 / GRID.size)
    assert redrawn.count(2) / len(redrawn) == pytest.approx(1 / 3, abs=1 / GRID.size)
    judged = judge_residual(0, x, y, 0.99, 0.5)
    figures = judged.figures()
    assert figures.reject_probability == pytest.approx(6 / 7)
    assert figures.total_variation == pytest.approx(0.6)
    assert figures.y_d == 0.1


@settings(deadline=None)
@given(x=weights.filter(any), y=weights.filter(any))
def test_the_numbers_told_are_those_of_the_definition(x, y):
    size = min(len(x), len(y))
    x, y = np.array(x[:size], float) + 1e-3, np.array(y[:size], float) + 1e-3
    x, y = x / x.sum(), y / y.sum()
    judged = [judge_residual(d, x, y, 0.5, 0.5).figures() for d in range(size)]
    assert [j.total_variation for j in judged] == pytest.approx([0.5 * np.abs(x - y).sum()] * size, abs=1e-12)
    assert [j.y_d for j in judged] == y.tolist()
    assert [j.reject_probability for j in judged] == pytest.approx(list(1 - np.minimum(1, y / x)), abs=1e-12)
    # The mean rejection over d ~ x is the total variation.
    rejected = sum(x_d * j.reject_probability for x_d, j in zip(x, judged, strict=True))
    assert rejected == pytest.approx(judged[0].total_variation, abs=1e-12)


def test_no_total_variation_is_below_zero() -> None:
    """A device refuses a verdict that says so: equal distributions may sum to a little more than 1."""
    p = np.random.default_rng(0).random((200, 7))
    p /= p.sum(axis=1, keepdims=True)
    above = [row for row in p if row.sum() > 1.0]
    assert len(above) > 5
    assert {judge_residual(0, row, row, 0.5, 0.5).figures().total_variation for row in above} == {0.0}


def test_equal_models_accept_everything():
    x = random_distribution(np.random.default_rng(4), 6)
    for d in range(6):
        judged = judge_residual(d, x, x.copy(), 1 - 2.0**-53, 0.5)
        assert (judged.replacement, *judged.figures()[1:]) == (None, 0.0, 0.0)


def test_a_zero_residual_accepts_even_where_rounding_left_y_d_below_x_d():
    x = np.array([0.5 + 1e-16, 0.5])
    y = np.array([0.5 - 1e-16, 0.5])
    assert judge_residual(0, x, y, 1 - 2.0**-53, 0.5).replacement is None


def test_a_draft_the_llm_excludes_always_falls():
    x, y = np.array([0.5, 0.5]), np.array([0.0, 1.0])
    judged = judge_residual(0, x, y, 2.0**-54, 0.5)
    assert (judged.replacement, *judged.figures()) == (1, 0.0, 1.0, 0.5)


def winner(p, position):
    """The race with every logarithm taken."""
    return int(np.argmin(-np.log(to_uniform(words(KEY, Role.GUMBEL, position, p.size))) / p))


def test_coupled_emits_the_llms_own_draw_whatever_the_draft():
    y = random_distribution(np.random.default_rng(8), 7)
    for position in range(60):
        noise = words(KEY, Role.GUMBEL, position, 7)
        own = winner(y, position)
        for d in range(7):
            judged = judge_coupled(d, Known(y), noise)
            assert (d if judged.replacement is None else judged.replacement) == own
            assert judged.figures() == (y[d], None, None)


def test_coupled_matches_at_least_as_often_as_its_bound():
    """P(match) ≥ (1 − TV)/(1 + TV) when both ends race the same noise."""
    rng = np.random.default_rng(2)
    x, y = random_distribution(rng, 6), random_distribution(rng, 6)
    coder, n, matched = codec("coupled", 6), 3000, 0
    for position in range(n):
        d = coder.draft(x, KEY, position).token
        matched += judge_coupled(d, Known(y), words(KEY, Role.GUMBEL, position, 6)).replacement is None
    tv = 0.5 * np.abs(x - y).sum()
    assert matched / n >= (1 - tv) / (1 + tv) - 3 * 0.5 / n**0.5
    assert matched / n < 1.0


def one_hot(token, size=4):
    return ReceivedDraft(token, np.eye(size)[token])


class Rows:
    """Serves y and notes which rows were asked for."""

    def __init__(self, *rows):
        self.rows = [np.asarray(row, float) for row in rows]
        self.asked = []

    def __call__(self, i):
        self.asked.append(i)
        return Known(self.rows[i])


STANDS, FALLS = np.eye(4)[2], np.eye(4)[3]


def test_a_single_draft_earns_no_bonus():
    y = Rows(STANDS)
    verdict = verify_chain([one_hot(2)], y, Judge.RESIDUAL, Draws(KEY), 10)
    assert (verdict.accepted, verdict.token, len(verdict.judgements), y.asked) == (1, None, 1, [0])


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_chain_that_stands_earns_one_bonus_token(length):
    y = Rows(*[STANDS] * length, [0.25] * 4)
    verdict = verify_chain([one_hot(2)] * length, y, Judge.RESIDUAL, Draws(KEY), 10)
    assert (verdict.accepted, len(verdict.judgements), y.asked) == (length, length, list(range(length + 1)))
    assert verdict.token == draw(np.full(4, 0.25), uniform(KEY, Role.BONUS, 10 + length))


@pytest.mark.parametrize("falls_at", [0, 1, 2])
def test_a_chain_stops_at_its_first_rejected_draft(falls_at):
    y = Rows(*[STANDS] * falls_at, FALLS, STANDS, STANDS, STANDS)
    verdict = verify_chain([one_hot(2)] * 3, y, Judge.RESIDUAL, Draws(KEY), 10)
    assert (verdict.accepted, verdict.token) == (falls_at, 3)
    assert len(verdict.judgements) == falls_at + 1
    assert [j.replacement for j in verdict.judgements] == [None] * falls_at + [3]
    assert y.asked == list(range(falls_at + 1))


def test_a_rejected_single_draft_is_replaced():
    verdict = verify_chain([one_hot(0)], Rows(FALLS), Judge.RESIDUAL, Draws(KEY), 0)
    assert (verdict.accepted, verdict.token) == (0, 3)


def test_each_draft_draws_its_own_uniforms_at_its_own_position():
    """Each draft of a chain is judged as it would be alone at its position, roles and all."""
    rng = np.random.default_rng(12)
    xs, ys = [[random_distribution(rng, 5) for _ in range(4)] for _ in range(2)]
    seen = set()
    for first in range(200):
        drafts = [ReceivedDraft(int(rng.integers(5)), x) for x in xs]
        verdict = verify_chain(drafts, Rows(*ys, ys[0]), Judge.RESIDUAL, Draws(KEY), first)
        for i, judged in enumerate(verdict.judgements):
            alone = judge_residual(
                drafts[i].token,
                xs[i],
                ys[i],
                uniform(KEY, Role.ACCEPT, first + i),
                uniform(KEY, Role.RESIDUAL, first + i),
            )
            assert (judged.replacement, judged.figures()) == (alone.replacement, alone.figures())
        seen.add(verdict.accepted)
    assert seen == {0, 1, 2, 3, 4}


def test_a_coupled_chain_emits_what_the_llm_alone_would():
    rng = np.random.default_rng(3)
    y = [random_distribution(rng, 4) for _ in range(4)]
    lengths = set()
    for first in range(100):
        alone = [draw_alone(Known(row), Draws(KEY), first + i) for i, row in enumerate(y)]
        assert alone == [winner(row, first + i) for i, row in enumerate(y)]
        # The first two drafts are the LLM's own tokens, the third is token 0.
        drafts = [ReceivedDraft(token, None) for token in (*alone[:2], 0)]
        verdict = verify_chain(drafts, Rows(*y), Judge.COUPLED, Draws(KEY), first)
        emitted = [d.token for d in drafts[: verdict.accepted]] + [verdict.token]
        assert emitted == alone[: len(emitted)]
        lengths.add(len(emitted))
    assert lengths == {3, 4}


@pytest.mark.parametrize("name", ["dense32", "dense16", "coupled"])
def test_equal_models_accept_every_draft_of_every_codec_that_keeps_x(name):
    """Identity: acceptance is 1 for dense32 and coupled; dense16 loses at most the float16's own distance."""
    coder, accepted, lost = codec(name, 50), 0, 0.0
    for position in range(200):
        z = (np.random.default_rng(position).normal(size=50) * 2).astype(np.float32)
        y = Sampling(0.6).distribution(z)
        received = coder.decode(coder.draft(y, KEY, position).encode())
        verdict = verify_chain([received], lambda i, z=z: Row(z, Sampling(0.6)), coder.judge, Draws(KEY), position)
        accepted += verdict.accepted
        lost += verdict.judgements[0].figures().total_variation or 0.0
    assert accepted >= 200 - (0 if name == "coupled" else 1 if name == "dense32" else 3)
    assert lost / 200 < {"dense32": 1e-6, "dense16": 1e-3, "coupled": 1e-12}[name]


def test_the_judges_noise_is_not_the_drafts():
    """With d drawn and judged by one uniform the rule is biased; the roles keep the draws apart."""
    numbers = [uniform(KEY, role, 5) for role in (Role.DRAFT, Role.ACCEPT, Role.RESIDUAL, Role.BONUS)]
    assert len(set(numbers)) == 4
