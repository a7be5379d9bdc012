"""The automatic draft length is the one of least expected time, from what was measured."""

import numpy as np
import pytest

from uihlm_device.draft_length import FIRST, LONGEST, LengthChooser, expected_tokens


def measured(acceptance, draft_s, rtt_s, forward_s, position_s, airtime_s=0.0, rounds=4000):
    """A chooser that has seen many rounds of four drafts on a known machine."""
    rng = np.random.default_rng(0)
    chooser = LengthChooser()
    for _ in range(rounds):
        for _ in range(4):
            chooser.drafted(draft_s)
        stands = rng.random(4) < acceptance
        accepted = int(stands.argmin()) if not stands.all() else 4
        chooser.judged_round(4, accepted, rtt_s + 4 * airtime_s, 4 * airtime_s)
        positions = int(rng.integers(1, 9))
        chooser.forward(positions, forward_s + position_s * (positions - 1))
    return chooser


def direct(length, acceptance, draft_s, rtt_s, forward_s, position_s, airtime_s=0.0):
    positions = length + (length > 1)
    round_s = length * (draft_s + airtime_s) + rtt_s + forward_s + position_s * (positions - 1)
    return round_s / expected_tokens(acceptance, length)


@pytest.mark.parametrize("acceptance", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("rtt_s", [0.0, 0.02, 0.15, 1.0])
@pytest.mark.parametrize("airtime_s", [0.0, 0.5])
def test_length_is_that_of_least_expected_time(acceptance, rtt_s, airtime_s):
    machine = (acceptance, 0.011, rtt_s, 0.010, 0.004, airtime_s)
    chooser = measured(*machine)
    best = min(range(1, LONGEST + 1), key=lambda length: direct(length, *machine))
    # Acceptance is estimated: the choice may be a neighbour that is as good to one percent.
    assert direct(chooser.best(), *machine) <= 1.01 * direct(best, *machine)


def test_longer_links_make_longer_blocks():
    lengths = [measured(0.65, 0.011, rtt_s, 0.010, 0.001).best() for rtt_s in (0.0, 0.05, 0.5, 5.0)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_expected_tokens_by_hand():
    assert expected_tokens(0.5, 1) == 1.0
    assert expected_tokens(0.5, 2) == pytest.approx(1 + 0.5 + 0.25)
    assert expected_tokens(1.0, 4) == 5.0


def test_nothing_known_gives_the_first_length():
    assert LengthChooser().best() == FIRST
