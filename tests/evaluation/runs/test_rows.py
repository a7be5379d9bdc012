"""Rows of a table: labels tell rows apart, and a row owns the knobs its policy reads."""

from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.rows import Row, described

RULES = PolicySettings(theta_u=0.4, k=5, theta_c=0.3, rate=0.25)


def test_row_has_just_the_knobs_its_policy_reads():
    knobs = {name: Row.of(name, RULES, 1.5).knobs for name in ("slm", "hlm", "u", "i", "ui", "confidence", "u-random")}
    assert knobs == {
        "slm": {},
        "hlm": {},
        "u": {"theta_u": 0.4},
        "i": {"k": 5, "gamma": 1.5},
        "ui": {"theta_u": 0.4, "k": 5, "gamma": 1.5},
        "confidence": {"theta_c": 0.3},
        "u-random": {"theta_u": 0.4, "rate": 0.25},
    }


def test_label_tells_the_knobs_that_are_shown_and_no_other():
    assert described(Row.of("ui", RULES, 1.5), frozenset({"k", "gamma"})).label == "ui k=5 γ=1.5"
    assert described(Row.of("hlm", RULES, 1.5), frozenset({"k", "gamma"})).label == "hlm"


def test_rows_of_a_run_are_its_policies_with_its_knobs_unless_a_grid_is_given():
    assert RunConfig(policies=("u", "slm"), rules=RULES).rows == (Row.of("u", RULES), Row.of("slm", RULES))
    grid = (Row.of("hlm"),)
    assert RunConfig(policies=("u",), grid=grid).rows == grid
