"""The grid of a sweep: the paper's rows by default, any others by name, and an order in which neighbours share their way."""

from dataclasses import replace

import pytest

from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.report.table_one import table_one
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.sweeps.grid import grid, in_walking_order
from uihlm_proto.errors import InvalidRequestError

CONFIG = RunConfig()


def test_default_is_the_papers_table_and_the_llm_alone():
    rows = grid(CONFIG, (), {})
    ours = {(row.policy, row.knobs.get("k"), row.knobs.get("gamma")) for row in rows if row.policy != "llm"}
    paper = {(row.policy, row.k, 1.0 if row.policy == "i" else row.gamma) for row in table_one()}
    assert ours == paper
    assert len(rows) == 24
    assert [row.label for row in rows[:6]] == ["slm", "llm", "hlm", "u", "i k=3", "i k=5"]
    assert rows[9].label == "ui k=3 γ=0.5"


def test_rows_carry_the_knobs_their_labels_tell_and_the_runs_own_for_the_rest():
    config = replace(CONFIG, rules=PolicySettings(theta_u=0.4, theta_c=0.3, rate=0.2))
    (row,) = [row for row in grid(config, (), {}) if row.label == "ui k=7 γ=1.5"]
    assert (row.rules, row.gamma) == (PolicySettings(theta_u=0.4, k=7, theta_c=0.3, rate=0.2), 1.5)


def test_grid_is_the_product_of_the_values_given():
    rows = grid(CONFIG, ("u-random", "hlm"), {"theta_u": [0.2, 0.4], "rate": [0.5, 1.0], "k": [3]})
    assert [row.label for row in rows] == [
        "u-random θ_u=0.2 rate=0.5",
        "u-random θ_u=0.2 rate=1",
        "u-random θ_u=0.4 rate=0.5",
        "u-random θ_u=0.4 rate=1",
        "hlm",
    ]


def test_knob_with_one_value_stays_out_of_the_label():
    assert [row.label for row in grid(CONFIG, ("ui",), {"k": [3, 5], "gamma": [0.7]})] == ["ui k=3", "ui k=5"]


def test_row_that_stands_twice_is_refused():
    with pytest.raises(InvalidRequestError, match="u twice"):
        grid(CONFIG, ("u", "hlm", "u"), {})
    with pytest.raises(InvalidRequestError, match="twice"):
        grid(CONFIG, ("u",), {"theta_u": [0.5, 0.5]})


def test_unknown_knob_is_refused():
    with pytest.raises(InvalidRequestError, match="not colour"):
        grid(CONFIG, (), {"colour": [1]})


def test_walking_order_keeps_drafters_together_and_like_upload_rates_beside_each_other():
    walk = [row.label for row in in_walking_order(grid(CONFIG, (), {}))]
    assert sorted(walk) == sorted(row.label for row in grid(CONFIG, (), {}))
    assert set(walk[:4]) == {"slm", "llm", "hlm", "u"}, "those that look at no attention"
    assert walk[4].split()[1] == "k=11"
    assert walk[-1] in ("i k=3", "ui k=3 γ=1.5")
