"""The paper's Table I: whole, and read as printed."""

import pytest

from uihlm_evaluation.report.table_one import PaperRow, table_one


def test_the_table_holds_the_papers_grid():
    rows = [(row.policy, row.k, row.gamma) for row in table_one()]
    assert rows[:3] == [("slm", None, None), ("hlm", None, None), ("u", None, None)]
    assert rows[3:8] == [("i", k, 1.0) for k in (3, 5, 7, 9, 11)]
    assert rows[8:] == [("ui", k, gamma) for k in (3, 5, 7, 9, 11) for gamma in (0.5, 1.0, 1.5)]


def test_a_row_is_read_as_printed():
    assert table_one()[10] == PaperRow("ui", 3, 1.5, 87.5, 56.6, 38.61, 57.80, 40.7, 0.37)


def test_what_the_table_leaves_empty_is_none_and_counts_as_no_upload():
    slm, hlm = table_one()[:2]
    assert (slm.upload_rate_pct, slm.reject_rate_pct, slm.upload_rate, slm.reject_rate) == (None, None, 0.0, 0.0)
    assert hlm.energy_saving_pct is None
    assert (hlm.upload_rate, hlm.reject_rate) == pytest.approx((1.0, 0.2911))
