"""Rejection caught by hand-made scores; chance, ties, and pairing."""

import numpy as np
import pytest

from uihlm_evaluation.calibration.capture import captured, gain

BETA = np.array([0.8, 0.1, 0.6, 0.0, 0.5, 0.0])
PROMPT = np.array([0, 0, 1, 1, 2, 2], np.int32)


def test_the_top_share_by_score_is_what_is_caught():
    found = captured({"oracle": BETA, "worst": -BETA}, BETA, PROMPT, (0.5, 1.0))
    assert found["oracle"].point == pytest.approx([1.9 / 2.0, 1.0])
    assert found["worst"].point == pytest.approx([0.1 / 2.0, 1.0])


def test_tokens_of_one_score_are_taken_in_part_whatever_their_order():
    # The best token alone, then five of one score.
    score = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for order in (np.arange(6), np.arange(6)[::-1]):
        found = captured({"rule": score[order]}, BETA[order], PROMPT[order], (1 / 6, 0.5))
        assert found["rule"].point == pytest.approx([0.4, 0.4 + 0.6 * 2 / 5])


def test_a_constant_score_is_chance_in_every_resample():
    found = captured({"random": np.zeros(6)}, BETA, PROMPT, (0.25, 0.7))
    assert np.allclose(found["random"].draws, [0.25, 0.7])


def test_every_resample_cuts_anew_at_the_very_rate():
    """Of three prompts one may fill a whole resample; the oracle then still catches all of it with half of the tokens."""
    found = captured({"oracle": BETA}, BETA, PROMPT, (0.5,))["oracle"].draws
    only_second = np.isclose(found, 1.0).mean()
    assert found.min() > 0.7 and only_second > 0.1


def test_gain_is_paired():
    found = captured({"a": BETA, "b": 2 * BETA + 1}, BETA, PROMPT, (0.3,))
    nothing = gain(found["a"], found["b"])
    assert nothing.point == pytest.approx(0) and not nothing.draws.any()
