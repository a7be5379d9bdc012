"""Agreement with the LLM: means over known log-probabilities, one question an answer, and what a failure may end."""

import logging
import math

import pytest

from uihlm_evaluation.quality.agreement import Agreement, mean_tv
from uihlm_proto.errors import ExhaustedError, ProtocolError, UnavailableError

# P(next | last) of a chain over three tokens.
CHAIN = [[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [1.0, 0.0, 0.0]]


class Chain:
    """An LLM that is a Markov chain; counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, context_ids, target_ids):
        self.asked.append((list(context_ids), list(target_ids)))
        ids = [*context_ids, *target_ids]
        first = len(context_ids)
        return [math.log(CHAIN[ids[i - 1]][ids[i]]) for i in range(first, len(ids))]


def test_log_probability_is_the_mean_over_the_answers_tokens_alone():
    agreement = Agreement(Chain())
    assert agreement.log_prob([0, 2], [0, 1, 1, 2]) == pytest.approx(
        (math.log(1.0) + math.log(0.25) + math.log(0.75) + math.log(0.125)) / 4
    )
    assert agreement.log_prob([1], [1]) == pytest.approx(math.log(0.75))


def test_same_answer_to_the_same_prompt_is_asked_once():
    chain = Chain()
    agreement = Agreement(chain)
    first = [agreement.log_prob([0], [1, 1]), agreement.log_prob([1], [1, 1]), agreement.log_prob([0, 1], [1])]
    assert [agreement.log_prob([0], [1, 1]), agreement.log_prob([1], [1, 1]), agreement.log_prob([0, 1], [1])] == first
    assert first[0] != first[1]
    assert chain.asked == [([0], [1, 1]), ([1], [1, 1]), ([0, 1], [1])]
    assert agreement.asked == 3
    assert agreement.spent_s > 0.0


def test_answer_without_tokens_has_no_score_and_asks_nothing():
    agreement = Agreement(lambda context, answer: pytest.fail("asked"))
    assert agreement.log_prob([0], []) is None
    assert agreement.asked == 0


def test_refusal_leaves_the_answer_unscored_and_is_told(caplog):
    def refuse(context, answer):
        raise ExhaustedError("all sessions are taken")

    agreement = Agreement(refuse)
    with caplog.at_level(logging.WARNING):
        assert agreement.log_prob([0], [1]) is None
    assert "did not score an answer of 1 tokens: all sessions are taken" in caplog.text
    assert agreement.asked == 0


def test_lost_base_station_ends_the_run():
    def lose(context, answer):
        raise UnavailableError("gone")

    with pytest.raises(UnavailableError):
        Agreement(lose).log_prob([0], [1])


@pytest.mark.parametrize("scores", [[-1.0], [-1.0, -math.inf], [-1.0, math.nan], [-1.0] * 3])
def test_answer_of_the_base_station_that_makes_no_mean_is_refused(scores):
    with pytest.raises(ProtocolError, match="scored 2 ids"):
        Agreement(lambda context, answer: scores).log_prob([0], [1, 1])


def test_tv_is_the_mean_where_it_is_known():
    assert mean_tv([None, 0.25, None, 0.75, 0.0, 0.0]) == 0.25
    assert mean_tv([None, None]) is mean_tv([]) is None
