"""The test keeps its promises: as many false alarms, and as much power, as it says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from uihlm_evaluation.referee.chi_square import POWER, _cumulants, chi_square, distance, power, smallest_share
from uihlm_evaluation.referee.defects import DEFECTS
from uihlm_evaluation.referee.stage import Stage
from uihlm_evaluation.referee.verdict import TOKENS

STAGE = Stage.of_seed(0)


def written(table, runs, tokens, seed):
    """Counts `[run, last, token]` of Markov chains that follow a table `[last, token]`."""
    generator = np.random.default_rng(seed)
    ends = np.cumsum(table, axis=1)
    counts, last = np.zeros((runs, 12, 12)), np.zeros(runs, int)
    for _ in range(tokens):
        token = (generator.uniform(size=runs)[:, None] > ends[last]).sum(axis=1)
        counts[np.arange(runs), last, token] += 1
        last = token
    return counts


def p_values(table, runs=300, tokens=2000, seed=0):
    return np.array([chi_square(counts, STAGE.y).p_value for counts in written(table, runs, tokens, seed)])


def test_p_values_of_a_right_loop_are_uniform():
    found = p_values(STAGE.y)
    assert stats.kstest(found, "uniform").pvalue > 1e-3
    assert found.min() > 1e-4


@pytest.mark.parametrize("tokens", [60, 200])
def test_few_tokens_cry_no_wolf(tokens):
    """By the chi-square law alone six in a hundred would, and three."""
    found = p_values(STAGE.y, 6000, tokens)
    assert (found < 0.01).mean() == pytest.approx(0.01, abs=4 * math.sqrt(0.01 / 6000))
    assert (found < 1e-4).sum() <= 6


@pytest.mark.parametrize("law", [[0.5, 0.3, 0.2], [0.9, 0.06, 0.04], [0.25, 0.0, 0.75]])
@pytest.mark.parametrize("tokens", [1, 2, 3, 7])
def test_spread_and_skewness_are_those_of_every_sample_there_is(law, tokens):
    cells = np.array(law)[np.array(law) > 0.0]
    outcomes = [n for n in itertools.product(range(tokens + 1), repeat=cells.size) if sum(n) == tokens]
    chances = np.array([stats.multinomial.pmf(n, tokens, cells) for n in outcomes])
    x2 = np.array([((n - tokens * cells) ** 2 / (tokens * cells)).sum() for n in np.array(outcomes)])
    mean = chances @ x2
    assert mean == pytest.approx(cells.size - 1)
    found = _cumulants(np.array([float(tokens)]), np.array([law]))
    assert found == pytest.approx((chances @ (x2 - mean) ** 2, chances @ (x2 - mean) ** 3), rel=1e-9, abs=1e-9)


def test_contexts_add_up_and_many_tokens_have_the_chi_square_law():
    tokens = np.array([7.0, 40.0])
    each = [_cumulants(tokens[i : i + 1], STAGE.y[i : i + 1]) for i in range(2)]
    assert _cumulants(tokens, STAGE.y[:2]) == pytest.approx(tuple(np.sum(each, axis=0)))
    counts = 1e7 * STAGE.y * (1 + 1.4e-3 * np.where(np.arange(12) % 2, 1, -1))
    outcome = chi_square(counts, STAGE.y / STAGE.y.sum(axis=1, keepdims=True))
    assert 1e-9 < outcome.p_value < 1e-2
    assert outcome.p_value == pytest.approx(stats.chi2.sf(outcome.statistic, outcome.freedom), rel=1e-3)


@pytest.mark.parametrize("tokens", [5, 50, 1667, 8000])
def test_a_law_that_leaves_tokens_out_is_fitted_by_what_it_writes(tokens):
    """A drafter cut to its six likeliest: the others have next to no mass in it, and are no cells of the test."""
    cut = STAGE.drafted_from(lambda row: np.where(row >= np.sort(row)[-6], row, 0.0)).x
    generator = np.random.default_rng(tokens)
    samples = [np.stack([generator.multinomial(tokens, row) for row in cut]).astype(float) for _ in range(300)]
    found = [chi_square(counts, cut) for counts in samples]
    assert {outcome.freedom for outcome in found} == {12 * 5}
    assert stats.kstest([outcome.p_value for outcome in found], "uniform").pvalue > 1e-3
    samples[0][3, cut[3].argmin()] += 1
    assert chi_square(samples[0], cut).p_value < 1e-6


def test_power_is_as_said():
    table = 0.85 * STAGE.y + 0.15 * STAGE.x
    for false_alarm in (1e-6, 1e-3):
        said = power(STAGE, table, 2000, false_alarm)
        caught = (p_values(table) < false_alarm).mean()
        assert caught == pytest.approx(said, abs=4 * np.sqrt(max(said * (1 - said), 1e-3) / 300))


def test_the_smallest_share_is_caught_as_surely_as_said():
    share = smallest_share(STAGE, 2000)
    table = (1 - share) * STAGE.y + share * STAGE.x
    assert power(STAGE, table, 2000) == pytest.approx(POWER, abs=1e-4)
    assert (p_values(table) < 1e-6).mean() > 0.98
    assert smallest_share(STAGE, 8000) == pytest.approx(share / 2, rel=1e-3)
    assert smallest_share(STAGE, 10) == 1.0


def test_default_size_catches_the_usual_form_of_every_known_defect():
    for defect in DEFECTS:
        tables = defect.law.tables(STAGE)
        if tables is not None:
            # By the last token alone, as the test sees it.
            assert power(STAGE, tables[0].mean(axis=0), TOKENS) > 0.998, defect.name


def test_distance_weighs_contexts_by_how_often_a_loop_comes_there():
    """A loop that goes from token 3 nowhere else is judged by its row alone."""
    table = np.tile(np.eye(12)[3], (12, 1))
    assert distance(STAGE, table) == pytest.approx(((np.eye(12)[3] - STAGE.y[3]) ** 2 / STAGE.y[3]).sum(), rel=1e-6)


def test_counts_by_hand():
    outcome = chi_square(np.array([[30.0, 70.0], [0.0, 0.0]]), np.array([[0.5, 0.5], [0.2, 0.8]]))
    assert (outcome.statistic, outcome.freedom) == (pytest.approx(16.0), 1)
    assert outcome.p_value == pytest.approx(stats.chisquare([30, 70]).pvalue, rel=0.2)
    assert chi_square(np.array([[1.0, 9.0]]), np.array([[0.0, 1.0]])).p_value == 0.0
    assert chi_square(np.array([[0.0, 9.0]]), np.array([[0.0, 1.0]])).p_value == 1.0
    # One token of two alike: X² is 1 whichever it is.
    assert chi_square(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])).p_value == 1.0
