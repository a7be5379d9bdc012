"""A decision before the draw leaves every upload distributed as y; one that looks at the draft does not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from chi_square import CAUGHT, LENGTH, LOSSLESS, Answers, Context, conditional_p_value, law
from fakes import Bench, FakeDrafter, FakeEngine, contextual, serving
from uihlm_device.drafting import Decide
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.rules.uncertainty import expected
from uihlm_device.tokens import Origin
from uihlm_proto.errors import InvalidRequestError

V = 4
PROMPT = (1, 2)
X, Y = (contextual(V, salt, spread=0.8, window=2) for salt in (1, 2))
TOKENS = 3000
# Between the contexts' mean u and between the tokens' own: both rules upload about half.
KNOBS = PolicySettings(theta_u=0.66, k=2)


@pytest.fixture(scope="module")
def address() -> Iterator[object]:
    with serving(FakeEngine(Y, V)) as address:
        yield address


def written(address: object, policy: str, decide: Decide, codec: str = "dense32", tokens: int = TOKENS) -> Answers:
    with Bench(address, FakeDrafter(X, V), codec) as bench:
        return [
            bench.run(policy, PROMPT, index=i, max_tokens=LENGTH, settings=KNOBS, decide=decide)
            for i in range(tokens // LENGTH)
        ]


def uploaded(answers: Answers) -> list[tuple[Context, int]]:
    pairs = []
    for answer in answers:
        line = [*PROMPT, *(r.token for r in answer)]
        pairs += [((line[i], line[i + 1]), r.token) for i, r in enumerate(answer) if r.origin is not Origin.LOCAL]
    return pairs


@pytest.mark.parametrize("codec", ["dense32", "coupled"])
def test_uploads_decided_before_the_draw_are_distributed_as_y(address: object, codec: str) -> None:
    pairs = uploaded(written(address, "u", Decide.DISTRIBUTION, codec))
    assert 0.2 * TOKENS < len(pairs) < 0.9 * TOKENS and len({context for context, _ in pairs}) > 3
    assert conditional_p_value(pairs, law(Y)) > LOSSLESS


@pytest.mark.parametrize("codec", ["dense32", "coupled"])
def test_uploads_decided_by_the_draft_are_biased(address: object, codec: str) -> None:
    pairs = uploaded(written(address, "u", Decide.TOKEN, codec))
    assert 0.2 * TOKENS < len(pairs) < 0.95 * TOKENS
    assert conditional_p_value(pairs, law(Y)) < CAUGHT


@pytest.mark.parametrize("policy", ["i", "ui"])
def test_importance_is_that_of_the_last_id(address: object, policy: str) -> None:
    """Runs no draft through the model before its fate is known: one forward a token, none of them twice."""
    with Bench(address, FakeDrafter(X, V)) as bench:
        records = bench.run(policy, PROMPT, max_tokens=40, settings=KNOBS, decide=Decide.DISTRIBUTION)
        assert bench.drafter.forwards == len(records) == 40
    assert len({r.uploaded for r in records}) == 2
    assert all(r.importance is not None for r in records if r.uploaded or r.origin is Origin.LOCAL)


def test_u_of_a_record_is_the_mean_over_drafts(address: object) -> None:
    (answer,) = written(address, "u", Decide.DISTRIBUTION, tokens=LENGTH)
    line = [*PROMPT, *(r.token for r in answer)]
    for i, record in enumerate(answer[:40]):
        z = X(line[: i + 2])
        x = np.exp(z.astype(float)) / np.exp(z.astype(float)).sum()
        assert record.u == pytest.approx(sum(x[d] * expected(z, d) for d in range(V)), abs=2e-4)


@pytest.mark.parametrize("policy", ["hlm", "u", "i", "ui", "random", "u-random", "slm", "llm"])
def test_policies_that_need_no_draft_run(address: object, policy: str) -> None:
    with Bench(address, FakeDrafter(X, V)) as bench:
        assert len(bench.run(policy, [1], max_tokens=8, settings=KNOBS, decide=Decide.DISTRIBUTION)) == 8


def test_policy_that_needs_the_draft_is_refused(address: object) -> None:
    with Bench(address, FakeDrafter(X, V)) as bench, pytest.raises(InvalidRequestError, match="looks at the draft"):
        bench.decoder("confidence", decide=Decide.DISTRIBUTION)


@pytest.mark.parametrize("policy", ["u", "u-random"])
def test_tokens_in_flight_are_those_of_a_loop_that_waits(address: object, policy: str) -> None:
    with Bench(address, FakeDrafter(X, V)) as bench:
        one, other = (
            bench.run(policy, PROMPT, max_tokens=60, settings=KNOBS, decide=Decide.DISTRIBUTION, in_flight=window)
            for window in (1, 3)
        )
    assert [r.token for r in one] == [r.token for r in other]
