"""Eq. (3) against the paper's Table I, and timing profiles."""

import csv
import math
from importlib.resources import files

import pytest

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.timing import PAPER, Eq3, TimingProfile

with (files("uihlm_evaluation") / "data" / "table1.csv").open(encoding="utf-8") as file:
    TABLE = list(csv.DictReader(file))


def test_the_table_is_whole():
    assert len(TABLE) == 23


@pytest.mark.parametrize("row", TABLE, ids=lambda row: "-".join(filter(None, (row["method"], row["k"], row["gamma"]))))
def test_the_papers_constants_give_every_throughput_of_table_one(row):
    upload_rate = float(row["upload_rate_pct"] or 0.0) / 100.0
    # The table is rounded to two places: nearer than 0.005 it does not tell.
    assert abs(PAPER.throughput_tok_s(upload_rate) - float(row["throughput_tok_s"])) <= 0.005


def test_throughput_by_hand():
    assert Eq3(draft_s=1.0, round_s=3.0).throughput_tok_s(0.5) == pytest.approx(0.4)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_an_upload_rate_that_is_none_is_refused(rate):
    with pytest.raises(InvalidRequestError):
        PAPER.throughput_tok_s(rate)


def test_times_that_cannot_be_are_refused():
    for wrong in ({"draft_s": -1.0}, {"forward_s": math.inf}):
        with pytest.raises(InvalidRequestError):
            TimingProfile(**wrong)
    for draft_s, round_s in ((0.0, 1.0), (1.0, -1.0)):
        with pytest.raises(InvalidRequestError):
            Eq3(draft_s, round_s)


def test_a_fixed_forward_grows_with_its_positions_and_costs_nothing_where_none_ran():
    fixed = TimingProfile(forward_s=0.5, position_s=0.25)
    assert [fixed.charged_s(9.0, positions) for positions in (1, 2, 5)] == [0.5, 0.75, 1.5]
    assert fixed.charged_s(0.0, 0) == 0.0
    assert TimingProfile(position_s=0.25).charged_s(9.0, 5) == 9.0, "measured"


def test_batch_of_drafts_is_charged_by_its_parts():
    assert TimingProfile().drafted_s(0.7, 5) == 0.7
    assert TimingProfile(0.01).drafted_s(0.7, 5) == pytest.approx(0.05)
    assert TimingProfile(0.01, draft_position_s=0.002).drafted_s(0.7, 5) == pytest.approx(0.018)
    assert TimingProfile(0.01).drafted_s(0.0, 0) == 0.0
