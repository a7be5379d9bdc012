"""A drafter that remembers its way gives the records it would give anyway, and runs the model less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeDrafter, contextual
from uihlm_device.drafters.shared_path import SharedPathDrafter
from uihlm_device.record import Wants
from uihlm_proto.errors import InvalidRequestError

V = 16
WANTS = Wants(attention=True)


def pair():
    return SharedPathDrafter(FakeDrafter(contextual(V, 1), V)), FakeDrafter(contextual(V, 1), V)


def same(one, other):
    assert np.array_equal(one.logits, other.logits)
    assert (one.attention is None) == (other.attention is None)
    if one.attention is not None:
        assert np.array_equal(one.attention, other.attention)


# Answers to a few prompts: each keeps some of what it has and goes on.
WAYS = st.lists(
    st.tuples(
        st.sampled_from([(1, 2, 3), (1, 2, 3), (1, 2, 4)]),
        st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(4, 6), min_size=1, max_size=2)), max_size=12),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=100)
@given(WAYS, st.booleans())
def test_records_are_those_of_a_drafter_that_runs_everything(ways, attention):
    shared, plain = pair()
    wants = WANTS if attention else Wants()
    for prompt, steps in ways:
        same(shared.forward(0, prompt, wants), plain.forward(0, prompt, wants))
        length = len(prompt)
        for dropped, ids in steps:
            keep = max(len(prompt), length - dropped)
            same(shared.forward(keep, ids, wants), plain.forward(keep, ids, wants))
            length = keep + len(ids)
    assert shared.ran <= shared.asked


def test_what_two_answers_share_is_run_once():
    shared, _ = pair()
    for last in (7, 8, 8):
        shared.forward(0, [1, 2, 3])
        for position, token in enumerate([4, 5, 6, last, 9]):
            shared.forward(3 + position, [token])
    # The first runs all six forwards, the second leaves its way at the fourth token, the third walks along.
    assert (shared.asked, shared.ran) == (18, 6 + 2)


def test_remembered_records_are_copies():
    shared, _ = pair()
    first = shared.forward(0, [1, 2])
    before = first.logits.copy()
    shared.forward(2, [5])
    assert np.array_equal(first.logits, before)


def test_record_that_lacks_what_is_wanted_is_run_again():
    shared, _ = pair()
    assert shared.forward(0, [1, 2]).attention is None
    assert shared.forward(0, [1, 2], WANTS).attention is not None
    assert shared.ran == 2


def test_more_than_is_held_cannot_be_kept():
    shared, _ = pair()
    shared.forward(0, [1, 2])
    with pytest.raises(InvalidRequestError, match="cannot keep 3"):
        shared.forward(3, [4])
