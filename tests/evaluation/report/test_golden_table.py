"""Golden Table I rendered: every format shows the same numbers, and the readable two name the constants."""

import csv
import io
import json

import pytest
from rich.console import Console

from uihlm_evaluation.report.golden import golden_rows
from uihlm_evaluation.report.golden_table import golden_csv, golden_json, golden_markdown, render_golden
from uihlm_evaluation.results.table import TableFormat

ROWS = golden_rows()
KEYS = ["policy", "k", "gamma", "throughput_paper", "throughput_model", "energy_paper", "energy_model"]


def rendered(table_format, width=100):
    out = io.StringIO()
    render_golden(table_format, Console(file=out, width=width))
    return out.getvalue()


def test_json_is_a_list_of_23_objects_with_the_stated_keys():
    objects = json.loads(rendered(TableFormat.JSON, width=20))
    assert len(objects) == 23
    assert all(list(entry) == KEYS for entry in objects)
    assert objects[1]["energy_paper"] is None
    assert (objects[2]["k"], objects[2]["gamma"]) == (None, None)
    assert objects[10] == {name: getattr(ROWS[10], name) for name in KEYS}


def test_csv_adds_both_differences():
    lines = list(csv.DictReader(io.StringIO(golden_csv(ROWS))))
    assert len(lines) == 23
    assert list(lines[0]) == [*KEYS, "throughput_difference", "energy_difference"]
    assert float(lines[2]["energy_difference"]) == pytest.approx(-2.8, abs=0.05)
    assert (lines[1]["energy_paper"], lines[1]["energy_difference"], lines[1]["k"]) == ("", "", "")
    assert len(json.loads(golden_json(ROWS))) == len(lines)


@pytest.mark.parametrize("table_format", [TableFormat.TABLE, TableFormat.MD])
def test_the_readable_formats_show_paper_model_difference_and_say_what_they_rest_on(table_format):
    text = " ".join(rendered(table_format, width=40).replace("|", " ").split())
    assert "ui 3 1.5 0.37 0.3678 -0.0022 40.7 30.8 -9.9" in text
    assert "hlm – – 0.25 0.2488 -0.0012 – 0.0 –" in text
    assert "largest error 0.0048" in text
    assert "slm 69.5 %, the paper 69.5 %" in text
    assert "mean absolute error 3.6" in text
    for constant in ("μ_SLM = 1.901 s: fitted", "μ + μ_LLM = 2.119 s: fitted", "B = 0.42: solved", "ē_HLM = 327.9:"):
        assert constant in text


def test_markdown_is_one_table_of_23_rows():
    lines = golden_markdown(ROWS).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 25
    assert {line.count("|") for line in table} == {10}
