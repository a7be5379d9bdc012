"""Drafting on fits into the wait that the last verdict took."""

from uihlm_device.trees.pace import Pace


def test_nothing_fits_before_a_verdict_was_seen():
    assert Pace().fits(0.0) == 0


def test_batches_fit_into_what_is_left():
    pace = Pace(waited_s=0.1)
    assert pace.fits(0.0) == 8  # nothing is known of a node yet
    pace.ran(8, 0.08)
    assert [pace.fits(spent_s) for spent_s in (0.0, 0.055, 0.095, 0.2)] == [8, 4, 0, 0]
