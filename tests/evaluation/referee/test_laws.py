"""Likelihoods of samples that are made for the purpose."""

from __future__ import annotations

import numpy as np
import pytest

from uihlm_evaluation.referee import steps
from uihlm_evaluation.referee.answers import ReseededLaw, SeedLaw
from uihlm_evaluation.referee.defects import RIGHT
from uihlm_evaluation.referee.laws import StaleLaw, StepLaw, log_mean
from uihlm_evaluation.referee.sample import Answer, Sample
from uihlm_evaluation.referee.stage import Stage

STAGE = Stage.of_seed(0)


def expected(table):
    """A sample of 12,000 tokens in which every count is what a law `[before last, last, token]` expects."""
    return Sample((), np.broadcast_to(table, (12, 12, 12)) * 12_000 / 144)


def test_a_defect_diluted_with_bonus_tokens_is_found_at_its_dilution():
    inverted = StepLaw(steps.inverted)
    q = inverted.tables(STAGE)[0]
    for share in (0.0, 0.3):
        mixed = (1 - share) * q + share * STAGE.y
        found = inverted.likelihood(expected(mixed), STAGE)
        assert found.table == pytest.approx(mixed)
        assert found.log > RIGHT.law.likelihood(expected(mixed), STAGE).log + 100
    assert StepLaw(steps.inverted, (0.0,)).likelihood(expected(mixed), STAGE).log < found.log - 10


def test_variants_share_one_vote():
    assert log_mean(np.array([-1000.0, -1000.0])) == pytest.approx(-1000.0)
    assert log_mean(np.array([0.0, -1000.0])) == pytest.approx(np.log(0.5))
    sample = expected(STAGE.y)
    one = StepLaw(lambda x, y: y, (0.0,)).likelihood(sample, STAGE).log
    many = StepLaw(lambda x, y: np.stack([y, *np.tile(x, (9, 1))]), (0.0,)).likelihood(sample, STAGE).log
    assert one - many == pytest.approx(np.log(10))


def test_a_law_of_the_row_before_reads_the_token_before_the_last():
    law = StaleLaw(lambda x, y, x_before, y_before: y_before)
    assert law.tables(STAGE)[0, 3, 7] == pytest.approx(STAGE.y[3])


def answer(tokens, prompt=0):
    return Answer(prompt, np.array([4, 5, *tokens]), 2)


def sample(*answers):
    return Sample(tuple(answers), np.zeros((12, 12, 12)))


def gain(law, *answers):
    """How much likelier than under y."""
    plain = sum(np.log(STAGE.y[a.last, a.tokens]).sum() for a in answers)
    return law.likelihood(sample(*answers), STAGE).log - plain


def test_what_follows_a_token_again_and_again_is_noise_that_repeats():
    assert gain(ReseededLaw(), answer([1, 2, 1, 2, 1, 2, 1, 2])) > 10
    # The same tokens in no such order.
    assert gain(ReseededLaw(), answer([1, 2, 3, 1, 4, 1, 5, 1])) < 1


def test_an_answer_that_repeats_another_seeds_answer_has_ignored_its_own():
    first = [1, 7, 2, 9, 3, 3, 8]
    assert gain(SeedLaw(), answer(first), answer(first)) > 10
    assert gain(SeedLaw(), answer(first), answer(first, prompt=1)) == pytest.approx(0.0)
    assert gain(SeedLaw(), answer(first), answer([2, *first[1:]])) < 0
