"""A base station that holds less than the device would write: the answer ends where the session is full, not in a refusal."""

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.rules.policies import PolicySettings
from uihlm_proto.errors import InvalidRequestError

V = 16
PROMPT = (1, 2, 3)
HOLDS = 20


@pytest.fixture
def bench():
    engine = FakeEngine(mixed(contextual(V, 1), contextual(V, 2), 0.3), V)
    engine.max_context = HOLDS
    with serving(engine) as address, Bench(address, FakeDrafter(contextual(V, 1), V), "coupled") as bench:
        yield bench


@pytest.mark.parametrize(
    ("policy", "decode"),
    [
        ("llm", {}),
        ("hlm", {}),
        ("hlm", {"draft_length": 4}),
        ("hlm", {"draft_length": 3, "in_flight": 2}),
        ("hlm", {"tree": 6}),
        ("random", {}),
    ],
)
def test_an_answer_ends_where_the_session_is_full(bench, policy, decode):
    records = bench.run(policy, PROMPT, max_tokens=50, settings=PolicySettings(rate=0.5), **decode)
    assert len(records) == HOLDS - len(PROMPT)


def test_where_there_is_room_nothing_changes(bench):
    assert len(bench.run("hlm", PROMPT, max_tokens=HOLDS - len(PROMPT) - 1)) == HOLDS - len(PROMPT) - 1


def test_the_drafter_alone_knows_no_base_stations_limit(bench):
    assert len(bench.run("slm", PROMPT, max_tokens=50)) == 50


def test_a_prompt_that_is_too_long_is_refused_at_once(bench):
    with pytest.raises(InvalidRequestError, match="a session here holds 20"):
        bench.run("hlm", [1] * (HOLDS + 1), max_tokens=5)
