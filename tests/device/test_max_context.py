"""A base station that holds less than the device would write: the answer ends where the session is full, not in a refusal."""

import time

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.rules.policies import PolicySettings
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.clock import EnforcedClock

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


@pytest.mark.parametrize("decode", [{}, {"draft_length": 4}, {"draft_length": 4, "in_flight": 3}, {"tree": 6}])
def test_in_real_time_too_an_answer_ends_where_the_session_is_full(decode):
    """There the first drafts may be sent before the base station has said how much a session holds."""

    class Slow(FakeEngine):
        def forward(self, work):
            time.sleep(0.02)
            return super().forward(work)

    engine = Slow(mixed(contextual(V, 1), contextual(V, 2), 0.3), V)
    engine.max_context = HOLDS
    drafter = FakeDrafter(contextual(V, 1), V)
    with serving(engine) as address, Bench(address, drafter, "coupled", clock=EnforcedClock()) as bench:
        for _ in range(2):
            assert len(bench.run("hlm", [1] * (HOLDS - 2), max_tokens=50, **decode)) == 2
