"""Chances of candidates: they follow what is drawn, and sum to the share of draws that are candidates at all."""

from __future__ import annotations

import numpy as np
import pytest

from uihlm_device.trees.chances import CANDIDATES, Chances


def noted(tau: float, missed: float, draws: int = 3000) -> Chances:
    """Chances after draws whose law they describe, with this τ."""
    rng = np.random.default_rng(0)
    chances = Chances()
    for _ in range(draws):
        scores = np.sort(rng.gumbel(size=CANDIDATES))[::-1] * 2.0
        odds = np.exp((scores - scores[0]) / tau)
        rank = None if rng.random() < missed else int(rng.choice(CANDIDATES, p=odds / odds.sum()))
        chances.note(tuple(scores), rank)
    return chances


@pytest.mark.parametrize("tau", [0.35, 0.7, 1.4, 2.8])
def test_tau_is_that_of_the_draws(tau: float) -> None:
    assert noted(tau, 0.1).tau == pytest.approx(tau)


def test_chances_sum_to_the_share_of_draws_among_the_candidates() -> None:
    chances = noted(1.4, 0.25)
    assert sum(chances.of(np.array([3.0, 1.0, 0.5]))) == pytest.approx(0.75, abs=0.03)
    assert sum(chances.usual()) == pytest.approx(0.75, abs=0.03)


def test_the_clearer_the_race_the_surer_its_winner() -> None:
    chances = Chances()
    close, clear = chances.of(np.array([0.0, -0.1, -4.0])), chances.of(np.array([0.0, -3.0, -4.0]))
    assert close[0] < clear[0] and close[1] > clear[1]
    assert list(close) == sorted(close, reverse=True)
    # s_1 / s_2 = e^3 makes odds of e^(3 / τ).
    assert np.log(clear[0] / clear[1]) == pytest.approx(3.0 / chances.tau)


def test_without_rounds_they_are_what_was_measured() -> None:
    usual = Chances().usual()
    assert usual[:2] == (0.63, 0.15) and sum(usual) == pytest.approx(0.97, abs=0.005)
    assert Chances().tau == pytest.approx(1.4)


def test_a_few_odd_draws_do_not_move_tau_far() -> None:
    chances = Chances()
    for _ in range(3):
        chances.note((0.0, -2.0), 1)
    assert chances.tau < 2.1
