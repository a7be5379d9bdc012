"""Measured joules stand beside modelled ones of the same end, wherever a meter read anything, and nowhere else."""

import io

import pytest
from rich.console import Console

from saved_run import write_run
from uihlm_evaluation.report.facts import facts
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.rows_table import table as page_table
from uihlm_evaluation.results.table import TableFormat, csv_text, markdown, render
from uihlm_evaluation.runs.meters import MeterFacts

BOTH = {"measured_device_j": 12.0, "measured_basestation_j": 30.0}
ENDS = {
    "both ends": (BOTH, "both ends"),
    "device": ({"measured_device_j": 12.0, "llm_forwards": 2}, "device"),
    "base station": ({"measured_basestation_j": 30.0}, "base station"),
    "one machine": ({"measured_machine_j": 42.0}, "both ends"),
}
MODELLED = {"transmit_j": 1.0, "device_j": 2.5, "basestation_j": 75.0}


@pytest.fixture
def run(tmp_path):
    return lambda **joules: write_run(tmp_path / "run", **{**MODELLED, **joules})


def terminal(results, width=100):
    out = io.StringIO()
    render(results, TableFormat.TABLE, Console(file=out, width=width, force_terminal=True, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize(("joules", "whose"), ENDS.values(), ids=ENDS)
def test_terminal_shows_both_a_token_within_a_hundred_columns(run, joules, whose):
    results = RunFolder.read(run(**joules)).results
    text = terminal(results)
    assert max(map(len, text.splitlines())) <= 100
    assert f"J/token: {whose}, modelled and measured" in text
    # These two give way; wider numbers than here would push the policy's name out.
    assert "λ" not in text and "cosine" not in text
    (row,) = [line.split() for line in text.splitlines() if line.strip().startswith("hlm")]
    modelled = {"both ends": 77.6, "device": 2.5, "base station": 75.0}[whose]
    measured = sum(value for name, value in joules.items() if name.startswith("measured"))
    # Three answers of five tokens; 5 W and 300 W times the busy seconds of each, whatever the samples say.
    shown = [float(cell) for cell in row[-2:]]
    assert shown == pytest.approx([modelled / 5, measured / 5], rel=0.02)


def test_without_a_meter_nothing_is_said_of_one(run):
    results = RunFolder.read(run()).results
    assert "meter" not in terminal(results)
    text = markdown(results)
    assert "| modelled J |" in text
    assert "| measured J" not in text


def test_markdown_has_each_end_and_their_sum(run):
    text = markdown(RunFolder.read(run(**BOTH)).results)
    header, _, *rows = text.splitlines()
    names = [cell.strip() for cell in header.strip("| ").split("|")]
    cells = dict(zip(names, [cell.strip() for cell in rows[1].strip("| ").split("|")], strict=True))
    assert (cells["measured J"], cells["measured J, device"], cells["measured J, base station"]) == (
        "126",
        "36.0",
        "90.0",
    )
    assert "measured J, one machine" not in names


def test_of_one_machine_the_sum_is_not_said_twice(run):
    header = markdown(RunFolder.read(run(measured_machine_j=42.0)).results).splitlines()[0]
    assert "| measured J, one machine |" in header
    assert "| measured J |" not in header


def test_csv_and_json_hold_every_field(run):
    results = RunFolder.read(run(**BOTH)).results
    head, *rows = csv_text(results).splitlines()
    values = dict(zip(head.split(","), rows[0].split(","), strict=True))
    assert (values["measured_j"], values["measured_device_j"], values["measured_machine_j"]) == ("126.0", "36.0", "")
    assert float(values["energy_j"]) == pytest.approx(sum(float(values[name]) for name in MODELLED))


@pytest.mark.parametrize(
    ("joules", "names"),
    [
        ({}, []),
        (BOTH, ["joules, measured", "joules, measured, device", "joules, measured, base station"]),
        ({"measured_machine_j": 42.0}, ["joules, measured", "joules, measured, one machine"]),
    ],
)
def test_page_shows_measured_columns_behind_the_modelled(run, joules, names):
    headings, lines = page_table(RunFolder.read(run(**joules)))
    found = [heading.name for heading in headings if heading.name.startswith("joules")]
    assert found == ["joules, modelled", "joules, modelled, device", "joules, modelled, base station", *names]
    place = [heading.name for heading in headings].index("joules, modelled, device")
    # 5 W by default, 0.5 s of drafting an answer of 5 tokens.
    assert lines[0].cells[place].value == "0.50"


def test_page_says_what_measured_and_what_was_left_out(run):
    folder = RunFolder.read(run(**BOTH))
    assert dict(facts(folder).settings)["joules"] == "modelled: watts times busy seconds"
    told = MeterFacts("zeus", False, ("gpu0",), ("RAPL is for root",), idle_s=5.0, idle_device_w=12.345)
    folder.document["meter"] = told.to_json()
    said = dict(facts(folder).settings)["joules"]
    assert (
        said == "modelled, and measured by zeus: gpu0; each end apart; left out: RAPL is for root; idle device 12.3 W"
    )
    wall = MeterFacts("csv", True, device="wall.csv", interval_s=1.0)
    folder.document["meter"] = wall.to_json()
    said = dict(facts(folder).settings)["joules"]
    assert (
        said
        == "modelled, and measured by csv: device wall.csv; device and base station are one machine, not told apart"
    )


def test_facts_come_back_from_their_plain_form():
    told = MeterFacts("zeus", True, ("gpu0", "cpu0"), (), idle_s=1.0, idle_machine_w=3.0)
    assert MeterFacts.from_json(told.to_json()) == told
