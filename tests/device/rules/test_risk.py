"""θ_u held to a budget of risk: the guarantee for any stream, and a stream whose difficulty changes half way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.conversation import Conversation
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.rules.risk import GAIN, RiskController, RiskPolicy
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key

M = 24


@given(
    st.lists(st.tuples(st.integers(1, M), st.floats(0.0, 1.0)), min_size=1, max_size=60),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_no_stream_breaks_the_guarantee(answers: list[tuple[int, float]], budget: float, first: float) -> None:
    """Answers do their worst at every θ that skips at all, and nothing where every token is uploaded."""
    controller = RiskController(budget, first, M)
    tokens, risk = 0, 0.0
    for n, share in answers:
        s = share * n if controller.theta_u >= 0.0 else 0.0
        controller.answered(n, s)
        tokens, risk = tokens + n, risk + s
        assert -GAIN <= controller.theta_u <= 1.0
        assert risk / tokens <= controller.most(tokens, first) + 1e-9


def test_theta_u_rises_where_there_is_room_and_falls_where_there_is_none() -> None:
    controller = RiskController(0.1, 0.5, M)
    controller.answered(M, 0.0)
    assert controller.theta_u == pytest.approx(0.5 + GAIN * 0.1)
    controller.answered(M, 0.3 * M)
    assert controller.theta_u == pytest.approx(0.5 - GAIN * 0.1)
    controller.answered(M // 2, 0.3 * M / 2)
    assert controller.theta_u == pytest.approx(0.5 - GAIN * 0.2), "half an answer moves it half as far"


@pytest.mark.parametrize("budget", [-0.1, 1.1])
def test_budget_is_a_probability(budget: float) -> None:
    with pytest.raises(InvalidRequestError, match="0 … 1"):
        RiskController(budget, 0.5, M)


def test_audit_that_is_not_whole_teaches_nothing() -> None:
    rule = RiskPolicy(RiskController(0.1, 0.5, M), lambda theta_u: policy("u", PolicySettings(theta_u)))
    rule.answered(M, None)
    assert rule.controller.theta_u == 0.5


# --- a stream that turns hard half way -----------------------------------------------------------------------------

V = 24
EASY, HARD = 1, 2
BUDGET, FIRST = 0.1, 0.7
ANSWERS = 60
X = contextual(V, 1)
NEAR, FAR = (mixed(X, contextual(V, 2), weight) for weight in (0.15, 0.6))


def y(ids: Sequence[int]) -> np.ndarray:
    return (NEAR if ids[0] == EASY else FAR)(ids)


@pytest.fixture(scope="module")
def address() -> Iterator[object]:
    with serving(FakeEngine(y, V)) as address:
        yield address


def risks(address: object, recalibrated: bool, answers: range = range(ANSWERS)) -> tuple[list[float], list[float]]:
    """Write the stream; return the risk of each answer and the θ_u it was written under."""
    out, thetas = [], []
    with Bench(address, FakeDrafter(X, V)) as bench:
        decoder = bench.decoder("u", M, PolicySettings(FIRST), audit=True)
        controller = RiskController(BUDGET, FIRST, M)
        rule = RiskPolicy(controller, lambda theta_u: policy("u", replace(PolicySettings(), theta_u=theta_u)))
        decoder.policy = rule
        for index in answers:
            conversation = Conversation(session_key(0, index))
            conversation.extend([EASY if index < ANSWERS // 2 else HARD, index % V])
            thetas.append(controller.theta_u)
            tokens = len(list(decoder.answer(conversation)))
            out.append(conversation.audit.risk_sum / tokens)
            if recalibrated:
                rule.answered(tokens, conversation.audit.risk_sum)
            conversation.end_session()
    return out, thetas


def test_budget_holds_when_the_stream_turns_hard(address: object) -> None:
    held, thetas = risks(address, recalibrated=True)
    bound = RiskController(BUDGET, FIRST, M).most(ANSWERS * M, FIRST)
    assert np.mean(held) <= bound
    # Settled: within three points of the budget on either side of the turn.
    half = ANSWERS // 2
    assert np.mean(held[10:half]) == pytest.approx(BUDGET, abs=0.03)
    assert np.mean(held[half + 10 :]) == pytest.approx(BUDGET, abs=0.03)
    assert np.mean(thetas[half + 10 :]) < np.mean(thetas[10:half]) - 0.1, "what was hard was asked more"


def test_without_recalibration_the_budget_breaks(address: object) -> None:
    held, thetas = risks(address, recalibrated=False, answers=range(ANSWERS // 2, ANSWERS // 2 + 12))
    assert set(thetas) == {FIRST}
    assert np.mean(held) > BUDGET + 0.05
