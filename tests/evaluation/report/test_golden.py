"""Golden Table I: the paper's rates through the `paper` profiles give its λ, its η_SLM, and the stated error of the rest."""

import pytest

from uihlm_evaluation.report.golden import constants, energy_errors, golden_rows, throughput_errors
from uihlm_evaluation.report.table_one import table_one
from uihlm_wireless.energy import DENSE32_LOAD, REJECT_COST, TOKEN_COST, UPLOAD_COST
from uihlm_wireless.timing import PAPER, Eq3

ROWS = golden_rows()


def test_all_throughputs_are_within_half_of_the_last_printed_place():
    assert len(ROWS) == 23
    assert max(abs(row.throughput_model - row.throughput_paper) for row in ROWS) <= 0.005
    assert throughput_errors(ROWS).rows == 23
    assert throughput_errors(ROWS).largest == pytest.approx(0.00477, abs=5e-6)


def test_the_slm_saves_69_5_percent():
    slm = ROWS[0]
    assert (slm.policy, slm.energy_paper) == ("slm", 69.5)
    assert round(slm.energy_model, 1) == 69.5


def test_the_other_savings_are_3_6_points_off_on_average():
    errors = energy_errors(ROWS)
    assert errors.rows == 21
    assert errors.mean == pytest.approx(3.6, abs=0.05)
    assert errors.largest == pytest.approx(14.9, abs=0.05)


def test_hlm_saves_nothing_against_itself_and_has_no_value_in_the_paper():
    hlm = ROWS[1]
    assert (hlm.policy, hlm.energy_paper, hlm.energy_difference) == ("hlm", None, None)
    assert hlm.energy_model == pytest.approx(0.0, abs=1e-12)


def test_one_row_by_hand():
    row = next(row for row in ROWS if (row.policy, row.k, row.gamma) == ("ui", 3, 1.5))
    assert row.throughput_model == pytest.approx(1 / (1.901 + 0.3861 * 2.119))
    energy = 0.3861 * (0.42 * 300 + 0.5780 * 350) + 100
    assert row.energy_model == pytest.approx(100 * (1 - energy / (0.42 * 300 + 0.2911 * 350 + 100)))
    assert row.energy_difference == pytest.approx(row.energy_model - 40.7)


def test_the_named_constants_are_those_the_profiles_use():
    values = {constant.symbol: constant.value for constant in constants()}
    assert values["μ_SLM"] == PAPER.draft_s
    assert values["μ + μ_LLM"] == PAPER.round_s
    assert values["B"] == DENSE32_LOAD
    assert values["ē_HLM"] == pytest.approx(327.885)


def test_b_solved_from_the_slm_cell_alone_is_the_one_in_use():
    hlm = table_one()[1]
    solved = (TOKEN_COST / (1 - 0.695) - TOKEN_COST - hlm.reject_rate * REJECT_COST) / UPLOAD_COST
    assert solved == pytest.approx(DENSE32_LOAD, abs=5e-4)


@pytest.mark.parametrize(("draft_s", "round_s"), [(1.898, 2.119), (1.904, 2.119), (1.901, 2.095), (1.901, 2.129)])
def test_outside_the_stated_ranges_a_row_is_missed(draft_s, round_s):
    off = [abs(Eq3(draft_s, round_s).throughput_tok_s(row.upload_rate) - row.throughput_tok_s) for row in table_one()]
    assert max(off) > 0.005


def test_the_best_pair_is_hardly_better():
    best = [abs(Eq3(1.902, 2.118).throughput_tok_s(row.upload_rate) - row.throughput_tok_s) for row in table_one()]
    assert max(best) == pytest.approx(0.0047, abs=5e-5)
