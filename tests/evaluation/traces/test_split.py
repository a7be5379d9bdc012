"""Which side a prompt is on: a property of its text, and of nothing else."""

import pytest

from uihlm_evaluation.traces.split import held_out
from uihlm_proto.errors import InvalidRequestError

SIDES = [True, True, True, True, False, True, False, True]
TEXTS = [f"Prompt number {index}." for index in range(4000)]


def test_the_share_is_held_out():
    for share in (0.2, 0.5):
        # Four standard deviations of 4,000 coins.
        assert sum(held_out(text, share) for text in TEXTS) == pytest.approx(4000 * share, abs=4 * 32)
    assert not any(held_out(text, 0.0) for text in TEXTS)
    assert all(held_out(text, 1.0) for text in TEXTS)


def test_a_larger_share_holds_out_what_a_smaller_one_does_and_more():
    assert {text for text in TEXTS if held_out(text, 0.2)} < {text for text in TEXTS if held_out(text, 0.5)}


def test_the_side_of_a_text_is_fixed():
    # A pack made elsewhere, or by a later version, must put these on the same sides.
    assert [held_out(text) for text in TEXTS[:8]] == SIDES


def test_a_share_that_is_none_is_refused():
    with pytest.raises(InvalidRequestError, match=r"within 0 and 1, got 1\.5"):
        held_out("x", 1.5)
