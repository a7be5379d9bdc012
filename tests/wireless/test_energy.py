"""The paper's energy model against its Table I, and joules by hand."""

import csv
import math
from importlib.resources import files

import pytest

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.energy import (
    JouleProfile,
    TokenCounts,
    energy_saving_ratio,
    paper_energy,
    paper_hlm_energy,
)

V = 32000
TOKENS = 10**8  # both rates of the table, with two places of a percent each, give whole tokens

with (files("uihlm_evaluation") / "data" / "table1.csv").open(encoding="utf-8") as file:
    TABLE = {(row["method"], row["k"], row["gamma"]): row for row in csv.DictReader(file)}


def counts(row):
    uploaded = round(TOKENS * float(row["upload_rate_pct"] or 0.0) / 100.0)
    return TokenCounts(TOKENS, uploaded, round(uploaded * float(row["reject_rate_pct"] or 0.0) / 100.0))


def saving_pct(row):
    energy = paper_energy(counts(row), counts(row).uploaded * V * 32, V)
    return 100.0 * energy_saving_ratio(energy, paper_hlm_energy(counts(TABLE["hlm", "", ""])))


def test_the_slm_saves_what_the_paper_says():
    assert saving_pct(TABLE["slm", "", ""]) == pytest.approx(69.5, abs=0.05)


def test_the_other_rows_are_near_the_papers():
    others = [row for (method, _, _), row in TABLE.items() if method not in ("slm", "hlm")]
    errors = [abs(saving_pct(row) - float(row["energy_saving_pct"])) for row in others]
    assert len(errors) == 21
    assert sum(errors) / 21 == pytest.approx(3.6, abs=0.05)


def test_hlm_saves_nothing_at_32_bits_whatever_codec_set_the_baseline():
    hlm = counts(TABLE["hlm", "", ""])
    assert energy_saving_ratio(paper_energy(hlm, hlm.uploaded * V * 32, V), paper_hlm_energy(hlm)) == pytest.approx(0.0)
    # Half the bits save half the upload cost.
    saved = paper_hlm_energy(hlm) - paper_energy(hlm, hlm.uploaded * V * 16, V)
    assert saved == pytest.approx(0.21 * 300)


def test_energy_by_hand():
    assert paper_energy(TokenCounts(10, 5, 2), 5 * V * 32, V) == pytest.approx(0.5 * 0.42 * 300 + 0.2 * 350 + 100)


def test_joules_are_watts_times_seconds():
    joules = JouleProfile(transmit_w=0.2, device_w=4.0, basestation_w=100.0).energy_j(10.0, 3.0, 0.5)
    assert (joules.transmit_j, joules.device_j, joules.basestation_j) == pytest.approx((2.0, 12.0, 50.0))
    assert joules.total_j == pytest.approx(64.0)


def test_the_default_transmit_power_is_the_papers():
    assert JouleProfile().transmit_w == pytest.approx(0.1995, abs=5e-5)


def test_counts_and_times_that_cannot_be_are_refused():
    for wrong in ((0, 0, 0), (10, 2, 3), (10, -1, -1)):
        with pytest.raises(InvalidRequestError):
            TokenCounts(*wrong)
    with pytest.raises(InvalidRequestError):
        JouleProfile(device_w=math.nan)
    with pytest.raises(InvalidRequestError, match="airtime_s"):
        JouleProfile().energy_j(-1.0, 0.0, 0.0)
    with pytest.raises(InvalidRequestError):
        energy_saving_ratio(1.0, 0.0)
