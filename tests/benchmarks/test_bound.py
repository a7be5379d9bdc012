"""What blocks can gain over the LLM alone, at the most."""

import numpy as np
import pytest

from benchmarks.peers.bound import bound, speed_up, tokens_a_round


def test_tokens_a_round_are_those_of_a_chain_of_coins():
    random = np.random.default_rng(0)
    stands = random.random((200_000, 4)) < 0.6
    tokens = np.cumprod(stands, axis=1).sum(axis=1) + 1
    assert tokens_a_round(0.6, 4) == pytest.approx(tokens.mean(), rel=0.01)
    assert (tokens_a_round(1.0, 4), tokens_a_round(0.0, 4)) == (5.0, 1.0)


def test_free_drafts_and_free_batches_gain_all_that_is_accepted():
    # The LLM's forward of L + 1 positions costs one of 1: g = L + 1.
    assert speed_up(0.5, 2, 0.0, 3.0) == pytest.approx(1.75)


def test_where_nothing_is_gained_in_batches_blocks_lose():
    assert speed_up(0.65, 2, 0.87, 1.0) < 1.0


def test_the_best_length_is_two_or_more():
    gains = {1: 20.0, 2: 1.0, 3: 4.0}
    assert bound(dict.fromkeys(gains, 0.6), dict.fromkeys(gains, 0.1), gains) == (
        3,
        pytest.approx(tokens_a_round(0.6, 3) / 1.3),
    )


def test_a_block_that_stands_has_its_last_draft_run_beside_the_bonus():
    # A quarter of the blocks of 2 stand: a quarter of what a second position adds.
    assert 1.75 / speed_up(0.5, 2, 0.4, 3.0, 0.2) == pytest.approx(1.75 / speed_up(0.5, 2, 0.4, 3.0) + 0.25 * 0.2)
    # Longer blocks stand seldom.
    halves, tenths = {2: 0.5, 3: 0.5}, {2: 0.1, 3: 0.1}
    assert bound(halves, tenths, {2: 3.0, 3: 4.0})[0] == 2
    assert bound(halves, tenths, {2: 3.0, 3: 4.0}, {2: 2.0, 3: 2.0})[0] == 3
    # Each length has its own.
    assert bound(halves, tenths, {2: 3.0, 3: 4.0}, {2: 0.0, 3: 2.0})[0] == 2
    assert bound(halves, tenths, {2: 3.0, 3: 4.0}, {2: 2.0, 3: 50.0})[0] == 2


def test_every_length_has_an_acceptance_and_a_cost_of_its_own():
    gains = {2: 3.0, 3: 4.0}
    assert bound({2: 0.5, 3: 0.7}, {2: 0.1, 3: 0.1}, gains) == (3, pytest.approx(tokens_a_round(0.7, 3) / 1.3))
    assert bound({2: 0.5, 3: 0.5}, {2: 0.4, 3: 0.1}, gains) == (3, pytest.approx(tokens_a_round(0.5, 3) / 1.3))


def test_what_is_no_acceptance_is_refused():
    with pytest.raises(ValueError, match="acceptance in 0 … 1"):
        tokens_a_round(1.1, 2)
