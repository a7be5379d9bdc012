"""At most a share α of the drafts exceed τ, after every draft and on any stream; retries find ε as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_proto.codecs.tolerance import Tolerance

KEY, OTHER = b"a" * 16, b"b" * 16
# What each grid of a ladder would lose, cheapest first; the last keeps τ = 0.1.
losses = st.lists(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), max_size=120)


def written(tolerance, stream, key=KEY, start=0):
    """TV of each draft, if it takes the first grid within ε."""
    taken = []
    for position, choices in enumerate(stream, start):
        epsilon = tolerance.epsilon(key, position)
        taken.append(next((tv for tv in choices if tv <= epsilon), 0.05))
        tolerance.drafted(position, taken[-1])
    return taken


@given(losses, st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.9]))
def test_the_share_that_exceeds_stays_below_alpha_at_every_moment(stream, alpha):
    exceeding = np.cumsum([tv > 0.1 for tv in written(Tolerance(0.1, alpha), stream)])
    assert all(count <= alpha * t for t, count in enumerate(exceeding, 1))


def test_the_share_is_used_up_where_there_is_need():
    """Otherwise a rule that never lets any exceed would pass."""
    taken = written(Tolerance(0.1, 0.2), [[0.5, 0.4, 0.3]] * 1000)
    assert 0.19 <= np.mean([tv > 0.1 for tv in taken]) <= 0.2


def test_a_difficulty_that_changes_does_not_break_the_share():
    easy, hard = [[0.08, 0.05, 0.01]] * 300, [[0.9, 0.6, 0.2]] * 300
    exceeding = np.array(written(Tolerance(0.1, 0.1), [*easy, *hard, *easy, *hard])) > 0.1
    assert not exceeding[:300].any()
    assert exceeding[300:600].sum() > 30, "what quiet drafts saved was not spent"
    assert exceeding.mean() <= 0.1


def test_without_alpha_the_bound_stands_still():
    tolerance = Tolerance(0.1, 0.0)
    written(tolerance, [[0.5, 0.2, 0.01]] * 50)
    assert tolerance.epsilon(KEY, 50) == 0.1


def test_drafts_that_cannot_keep_to_the_bound_count():
    tolerance = Tolerance(0.1, 0.5)
    for position in range(10):
        assert tolerance.epsilon(KEY, position) == 0.1
        tolerance.drafted(position, 0.7)


@given(losses.filter(len), st.data())
def test_a_position_taken_again_finds_the_bound_as_it_was(stream, data):
    tolerance = Tolerance(0.1, 0.3)
    first = written(tolerance, stream)
    back = data.draw(st.integers(0, len(stream) - 1))
    assert written(tolerance, stream[back:], start=back) == first[back:]


def test_another_session_starts_afresh():
    tolerance = Tolerance(0.1, 0.3)
    fresh = written(tolerance, [[0.08, 0.08, 0.08]] * 40 + [[0.9, 0.9, 0.9]])
    assert fresh[-1] == 0.9
    assert tolerance.epsilon(OTHER, 41) == 0.1
    assert tolerance.epsilon(KEY, 41) == 0.1, "the first session's savings are gone with it"


@pytest.mark.parametrize("quiet", [10, 20])
def test_the_bound_grows_by_alpha_a_quiet_draft(quiet):
    tolerance = Tolerance(0.1, 0.25)
    written(tolerance, [[0.05, 0.05, 0.05]] * quiet)
    assert tolerance.epsilon(KEY, quiet) == pytest.approx(0.1 + 0.25 * (quiet + 1) - 1.0)
