"""Findings: medians, goals, tables and their file."""

import json

import pytest

from benchmarks.findings import Finding, ratios, read, table, write


def test_ratios_are_taken_turn_by_turn():
    found = ratios("a ÷ b", [1.0, 2.0, 30.0], [1.0, 1.0, 10.0])
    assert (found.median, found.unit) == (2.0, "×")
    with pytest.raises(ValueError):
        ratios("a ÷ b", [1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("goal", "at_most", "met"), [(None, False, None), (2.0, False, True), (2.1, False, False), (1.9, True, False)]
)
def test_a_goal_is_held_by_the_median(goal, at_most, met):
    assert Finding("f", 2.0, 1.0, 3.0, goal=goal, at_most=at_most).met is met


def test_the_table_says_spread_goal_and_what_is_missed():
    lines = table([Finding("one", 0.913, 0.85, 1.0, goal=0.95), Finding("two", 12.0, 12.0, 12.0, "MB")]).splitlines()
    assert lines[2:] == ["| one | 0.913 [0.850, 1.00] × | ≥ 0.95 | **no** |", "| two | 12.0 MB |  |  |"]


def test_findings_come_back_from_their_file(tmp_path):
    found = [Finding("one", 0.9, 0.8, 1.0, goal=0.95), Finding("two", 1.0, 1.0, 1.0, "s", 5.0, at_most=True)]
    write(tmp_path / "f.json", found, {"more": 1})
    document = json.loads((tmp_path / "f.json").read_text())
    assert read(document) == found and document["more"] == 1
