"""Each law against a simulation of the very rule, written anew here, on rows of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from uihlm_evaluation.referee import noise, steps
from uihlm_evaluation.referee.steps import LENIENCES, SHARES

N = 200_000


@pytest.fixture(params=[0, 1, 2])
def rows(request):
    generator = np.random.default_rng(request.param)
    return generator.dirichlet(np.ones(6)), generator.dirichlet(np.ones(6))


def by_inversion(p, u):
    return np.minimum(np.searchsorted(np.cumsum(p) / p.sum(), u, side="right"), len(p) - 1)


def close(law, tokens):
    """Whether a law is one, and the tokens are within five standard deviations of it in every cell."""
    seen = np.bincount(tokens, minlength=len(law)) / len(tokens)
    return law.sum() == pytest.approx(1.0) and np.abs(seen - law).max() < 5 * np.sqrt(0.25 / len(tokens))


def judged(x, y, d, u_accept, u_residual, weights=None):
    r = np.maximum(y - x, 0) if weights is None else weights
    return np.where(u_accept * x[d] <= y[d], d, by_inversion(r, u_residual))


def test_the_right_rule_writes_y(rows):
    x, y = rows
    assert steps.right(x, y) == pytest.approx(y)


def test_shared_numbers(rows):
    x, y = rows
    u, v, w = np.random.default_rng(9).uniform(size=(3, N))
    d = by_inversion(x, u)
    assert close(noise.acceptance_shares_draft(x, y)[0], judged(x, y, d, u, w))
    assert close(noise.acceptance_shares_draft(x, y)[1], judged(x, y, d, 1 - u, w))
    assert close(noise.residual_shares_draft(x, y), judged(x, y, d, v, u))
    assert close(noise.residual_shares_acceptance(x, y)[0], judged(x, y, d, v, v))
    assert close(noise.residual_shares_acceptance(x, y)[1], judged(x, y, d, 1 - v, v))


def test_shared_races(rows):
    x, y = rows
    generator = np.random.default_rng(8)
    e, u = generator.exponential(size=(N, 6)), generator.uniform(size=N)
    d = (e / x).argmin(axis=1)
    with np.errstate(divide="ignore"):
        assert close(
            noise.residual_shares_race(x, y), np.where(u * x[d] <= y[d], d, (e / np.maximum(y - x, 0)).argmin(axis=1))
        )


def shifted(e, y, d):
    others = [i for i in range(len(y)) if i != d]
    return others[int(np.argmin(e[: len(others)] / y[others]))]


def test_noise_shifted_by_the_lost_draft(rows):
    x, y = rows
    e = np.random.default_rng(7).exponential(size=(40_000, 6))
    d, own = (e / x).argmin(axis=1), (e / y).argmin(axis=1)
    tokens = np.array([o if o == k else shifted(row, y, k) for row, k, o in zip(e, d, own, strict=True)])
    seen = np.bincount(tokens, minlength=6) / len(tokens)
    assert np.abs(seen - noise.race_shifted(x, y)).max() < 5 * np.sqrt(0.25 / 40_000 + 0.25 / 100_000)


def test_residuals(rows):
    x, y = rows
    u, v, w = np.random.default_rng(6).uniform(size=(3, N))
    d = by_inversion(x, u)
    parts: dict = {}
    assert close(steps.from_y(x, y), judged(x, y, d, v, w, y))
    assert close(steps.absolute(x, y), judged(x, y, d, v, w, np.abs(y - x)))
    assert close(steps.from_logits(x, y)[0], judged(x, y, d, v, w, np.maximum(np.log(y) - np.log(x), 0)))
    assert close(steps.inverted(x, y), np.where(v * y[d] <= x[d], d, by_inversion(np.maximum(y - x, 0), w)))
    assert close(
        steps.lenient(x, y)[0], np.where(v * x[d] <= LENIENCES[0] * y[d], d, by_inversion(np.maximum(y - x, 0), w))
    )
    for token in range(6):
        mine = d == token
        for law, weights in (
            (steps.scalar_in_residual, np.maximum(y - x[token], 0)),
            (steps.draft_alone_in_residual, np.maximum(y - x * (np.arange(6) == token), 0)),
        ):
            left = judged(x, y, d[mine], v[mine], w[mine], weights) if weights.any() else d[mine]
            parts.setdefault(law, []).append(left)
    for law, left in parts.items():
        assert close(law(x, y), np.concatenate(left))


def test_absolute_residual_is_half_unverified(rows):
    """Why the referee names both."""
    x, y = rows
    assert steps.absolute(x, y) == pytest.approx((x + y) / 2)
    assert steps.unverified(x, y)[1 + SHARES[::-1].index(0.5)] == pytest.approx((x + y) / 2)


@pytest.mark.parametrize("k", [2, 4])
def test_truncations(rows, k):
    x, y = rows
    u, v, w = np.random.default_rng(5).uniform(size=(3, N))
    d = by_inversion(x, u)
    kept = np.argsort(-x)[:k]
    inside = np.isin(d, kept)
    cut = np.where(np.isin(np.arange(6), kept), x, 0)
    cut /= cut.sum()
    fell = by_inversion(np.maximum(y - cut, 0), w)
    stands = v * cut[d] <= y[d]
    along, unjudged, dropped = steps.truncated(x, y)[3 * (k - 2) : 3 * (k - 1)]
    assert close(unjudged, np.where(stands | ~inside, d, fell))
    assert close(dropped, np.where(stands & inside, d, fell))
    tokens = np.empty(N, int)
    for token in range(6):
        mine = d == token
        kept_too = np.where((cut > 0) | (np.arange(6) == token), x, 0)
        kept_too /= kept_too.sum()
        tokens[mine] = judged(kept_too, y, d[mine], v[mine], w[mine])
    assert close(along, tokens)
    assert close(steps.outside_stands(x, y)[k - 2], np.where(inside, judged(x, y, d, v, w), d))


def test_every_law_is_a_distribution(rows):
    x, y = rows
    laws = [
        steps.unverified, steps.inverted, steps.lenient, steps.typical, steps.truncated, steps.quantised,
        steps.outside_stands, steps.one_stands, steps.scalar_in_residual, steps.draft_alone_in_residual,
        steps.spread_in_residual, steps.from_y, steps.absolute, steps.from_logits, steps.greedy, steps.reshaped,
    ]  # fmt: skip
    for law in laws:
        q = np.atleast_2d(law(x, y))
        assert q.shape[1] == 6 and q.min() >= 0.0 and q.sum(axis=1) == pytest.approx(np.ones(len(q))), law.__name__
