"""Tables: every format shows the same numbers, a missing value is a dash, and the terminal table fits 100 columns."""

import csv
import io
import json

import pytest
from rich.console import Console

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.results.policy_result import PolicyResult
from uihlm_evaluation.results.table import DASH, TableFormat, _number, _scaled, csv_text, markdown, render


def result(policy, **changes):
    values = {
        "row": policy, "k": None, "gamma": None, "theta_u": None, "theta_c": None, "rate": None,
        "prompts": 100, "tokens": 9000, "uploaded": 9000, "rejected": 2700, "upload_rate": 1.0, "reject_rate": 0.3,
        "acceptance_rate": 0.7, "bertscore_f1": Interval(0.876, 0.87, 0.882),
        "cosine_similarity": Interval(0.5, 0.4, 0.6), "bertscore_f1_llm": None, "cosine_similarity_llm": None,
        "exact_match": None, "last_number_accuracy": None, "llm_log_prob": None, "tv": None,
        "energy_saving_ratio": 0.0, "energy_j": 1234.5, "throughput_tok_s": 0.17, "throughput_paper_tok_s": 0.25,
        "latency_s": Interval(500.0, 490.0, 510.0), "llm_forwards_per_token": 1.01, "llm_positions_per_token": 1.5,
        "bs_busy_s": 120.0, "model_bits": 9000 * 1_572_864, "payload_bits": 9000 * 1_572_880, "wire_bytes": 10**9,
        "skipped_risk": 0.0,
    }  # fmt: skip
    return PolicyResult(policy, **{**values, **changes})


HLM = result("hlm")
UI = result(
    "ui", uploaded=2250, upload_rate=0.25, bertscore_f1=Interval(0.8322, 0.82, 0.84), throughput_paper_tok_s=0.37,
    energy_saving_ratio=0.407, skipped_risk=0.125,
)  # fmt: skip
LLM = result(
    "llm", uploaded=0, upload_rate=0.0, reject_rate=None, acceptance_rate=None, energy_saving_ratio=None,
    throughput_paper_tok_s=None, bertscore_f1=None,
)  # fmt: skip
ALL = [LLM, HLM, UI]


def rendered(table_format, width=100, terminal=True):
    out = io.StringIO()
    render(ALL, table_format, Console(file=out, width=width, force_terminal=terminal, color_system=None), "encoder_L5")
    return out.getvalue()


@pytest.mark.parametrize(("width", "terminal"), [(100, True), (80, False)])
def test_terminal_table_fits_a_hundred_columns_unwrapped(width, terminal):
    lines = rendered(TableFormat.TABLE, width, terminal).splitlines()
    assert max(map(len, lines)) <= 100
    rows = {line.split()[0]: line for line in lines if line.split()}
    assert "0.876 ±0.006" in rows["hlm"]
    assert "1.57 M" in rows["hlm"]
    assert "40.7" in rows["ui"]
    assert rows["llm"].count("–") == 4


def test_long_policy_names_do_not_push_numbers_out():
    out = io.StringIO()
    name = "ui(k=3, gamma=1.0, theta=0.58, layer=22)"
    render([result(name)], TableFormat.TABLE, Console(file=out, width=100, force_terminal=True, color_system=None))
    assert max(map(len, out.getvalue().splitlines())) <= 100
    assert "1.57 M" in out.getvalue()


def test_json_holds_the_objects_of_results_json():
    assert json.loads(rendered(TableFormat.JSON, width=20)) == [one.to_json() for one in ALL]


def test_csv_has_a_column_for_each_bound_and_empty_cells_for_null():
    rows = list(csv.DictReader(io.StringIO(rendered(TableFormat.CSV, width=20))))
    assert [row["policy"] for row in rows] == ["llm", "hlm", "ui"]
    assert (rows[1]["bertscore_f1"], rows[1]["bertscore_f1_low"], rows[1]["bertscore_f1_high"]) == (
        "0.876",
        "0.87",
        "0.882",
    )
    assert rows[0]["bertscore_f1_low"] == rows[0]["reject_rate"] == ""
    assert rows[2]["skipped_risk"] == "0.125"
    assert csv_text([]) == ""


def cells(text, policy):
    lines = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]
    row = next(line for line in lines if line[0] == policy)
    return dict(zip(lines[0], row, strict=True))


def test_markdown_puts_the_ratio_to_hlm_beside_quality_throughput_and_uploads():
    text = rendered(TableFormat.MD, width=20)
    ui = cells(text, "ui")
    assert ui["BERTScore F1"] == "0.832 [0.820, 0.840] (95.0 %)"
    assert ui["cosine similarity"] == "0.500 [0.400, 0.600] (100.0 %)"
    assert ui["upload"] == "25.0 % (75.0 % saved)"
    assert ui["λ (paper)"] == "0.37 (1.48×)"
    assert ui["tok/s"] == "0.17 (1.00×)"
    assert ui["risk"] == "0.125"
    llm = cells(text, "llm")
    assert (llm["BERTScore F1"], llm["λ (paper)"], llm["reject"], llm["η"]) == ("–", "–", "–", "–")
    assert "encoder_L5" in text


def test_columns_of_tasks_and_agreement_show_only_with_a_value():
    plain = markdown(ALL)
    for heading in ("exact match", "last number", "to llm", "ln P_LLM/token", "TV(x, y)"):
        assert heading not in plain.partition("\n\n")[0], heading
    task = result(
        "u", exact_match=Interval(0.0, 0.0, 0.0), last_number_accuracy=Interval(0.25, 0.2, 0.3),
        llm_log_prob=Interval(-0.5, -0.6, -0.4), tv=Interval(0.3, 0.25, 0.35), bertscore_f1_llm=Interval(0.8, 0.7, 0.9),
    )  # fmt: skip
    text = markdown([LLM, task])
    u, llm = cells(text, "u"), cells(text, "llm")
    assert (u["exact match"], u["last number"]) == ("0.000 [0.000, 0.000]", "0.250 [0.200, 0.300]")
    assert (u["ln P_LLM/token"], u["TV(x, y)"]) == ("-0.500 [-0.600, -0.400]", "0.300 [0.250, 0.350]")
    assert u["BERTScore F1 to llm"] == "0.800 [0.700, 0.900]"
    assert "cosine similarity to llm" not in u
    assert llm["last number"] == llm["TV(x, y)"] == "–"
    out = io.StringIO()
    render([LLM, task], TableFormat.TABLE, Console(file=out, width=100, force_terminal=True, color_system=None))
    assert max(map(len, out.getvalue().splitlines())) <= 100
    assert "25.0 ±5.0" in out.getvalue()
    assert "0.0 ±0.0" in out.getvalue()
    row = next(csv.DictReader(io.StringIO(csv_text([task]))))
    assert (row["tv"], row["tv_low"], row["tv_high"], row["cosine_similarity_llm_low"]) == ("0.3", "0.25", "0.35", "")


def test_markdown_without_hlm_shows_values_alone():
    ui = cells(markdown([UI]), "ui")
    assert (ui["upload"], ui["λ (paper)"]) == ("25.0 %", "0.37")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, DASH), (0.0, "0.00"), (0.00412, "0.00412"), (0.0995, "0.10"), (0.5, "0.50"), (9.994, "9.99"), (9.996, "10.0"),
     (99.96, "100"), (1234.4, "1234")],
)  # fmt: skip
def test_numbers_show_three_digits_or_two_decimals(value, shown):
    assert _number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(999.4, "999"), (999.7, "1 k"), (999_700.0, "1 M"), (1_572_880.0, "1.57 M"), (16.0, "16")]
)
def test_units_change_where_the_rounded_number_does(value, shown):
    assert _scaled(value) == shown
