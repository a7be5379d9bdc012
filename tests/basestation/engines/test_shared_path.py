"""An engine that remembers its way gives the rows it would give anyway, and runs the LLM less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeEngine, contextual
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.shared_path import SharedPathEngine
from uihlm_proto.errors import InvalidRequestError

V = 16


def pair():
    return SharedPathEngine(FakeEngine(contextual(V, 2), V)), FakeEngine(contextual(V, 2), V)


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(4, 6), min_size=1, max_size=4), st.integers(0, 4)), max_size=12
)
PROMPTS = st.tuples(st.sampled_from([(1, 2, 3), (1, 2, 4), (1,), (7, 2, 3)]), st.integers(0, 3))
SESSIONS = st.lists(st.tuples(PROMPTS, STEPS), min_size=1, max_size=6)


@settings(deadline=None, max_examples=100)
@given(SESSIONS)
def test_rows_are_those_of_an_engine_that_runs_everything(sessions):
    shared, plain = pair()
    for number, ((prompt, asked), steps) in enumerate(sessions):
        works = [Work(number, 0, prompt, min(asked, len(prompt)))]
        length = len(prompt)
        for dropped, ids, rows in steps:
            keep = max(1, length - dropped)
            works.append(Work(number, keep, ids, min(rows, len(ids))))
            length = keep + len(ids)
        for work in works:
            assert np.array_equal(shared.forward([work])[0], plain.forward([work])[0])
        if number % 2:
            shared.close_session(number)
    assert shared.ran <= shared.asked


def test_sessions_that_take_turns_keep_their_own_ways():
    shared, plain = pair()
    for work in (
        Work(1, 0, [1, 2], 1),
        Work(2, 0, [1, 5], 1),
        Work(1, 2, [3], 1),
        Work(2, 2, [3], 1),
        Work(1, 1, [9], 1),
    ):
        assert np.array_equal(shared.forward([work])[0], plain.forward([work])[0])


def test_prompt_that_two_sessions_share_is_run_once():
    shared, _ = pair()
    shared.forward([Work(1, 0, [1, 2, 3, 4], 1)])
    shared.close_session(1)
    shared.forward([Work(2, 0, [1, 2, 3, 4], 1)])
    assert (shared.asked, shared.ran) == (8, 4)


def test_rows_never_made_are_made_when_asked_for():
    shared, plain = pair()
    for engine in (shared, plain):
        engine.forward([Work(1, 0, [1, 2, 3, 4], 1)])
    assert np.array_equal(
        shared.forward([Work(2, 0, [1, 2, 3, 4], 3)])[0], plain.forward([Work(2, 0, [1, 2, 3, 4], 3)])[0]
    )


def test_bad_work_is_refused_as_the_engine_refuses_it():
    shared, _ = pair()
    shared.forward([Work(1, 0, [1, 2], 1)])
    for bad in (Work(1, 3, [4], 1), Work(1, 2, [], 0), Work(1, 2, [V], 1), Work(1, 2, [1], 2)):
        with pytest.raises(InvalidRequestError):
            shared.forward([bad])
    with pytest.raises(InvalidRequestError, match="no trees"):
        shared.forward([Work(1, 2, [4, 5], 2, parents=[-1, -1])])
    with pytest.raises(InvalidRequestError, match="one session"):
        shared.forward([Work(1, 2, [4], 1), Work(1, 2, [5], 1)])
