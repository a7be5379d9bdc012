"""Sums of what meters read: known where every answer that counts has its own reading."""

import pytest

from saved_run import sample
from uihlm_evaluation.results.totals import MeasuredTotals
from uihlm_evaluation.runs.samples import Sample, Stop


def answer(prompt, device=None, basestation=None, machine=None, **changes):
    measured = {"measured_device_j": device, "measured_basestation_j": basestation, "measured_machine_j": machine}
    return sample("hlm", prompt, **measured, **changes)


@pytest.mark.parametrize(
    ("answers", "parts", "total"),
    [
        ([], (None, None, None), None),
        ([answer(0), answer(1)], (None, None, None), None),
        ([answer(0, 1.0, 2.0), answer(1, 3.0, 4.0)], (4.0, 6.0, None), 10.0),
        ([answer(0, 1.0), answer(1, 3.0)], (4.0, None, None), None),
        ([answer(0, None, 2.0), answer(1, None, 4.0)], (None, 6.0, None), None),
        ([answer(0, machine=1.0), answer(1, machine=3.0)], (None, None, 4.0), 4.0),
        # One answer without a reading, and the sum is a sum over something else.
        ([answer(0, 1.0, 2.0), answer(1, 3.0)], (4.0, None, None), None),
        ([answer(0, machine=1.0), answer(1)], (None, None, None), None),
        # A failed answer counts nowhere.
        ([answer(0, 1.0, 2.0), answer(1, stop=Stop.ERROR)], (1.0, 2.0, None), 3.0),
        # Nothing was asked of the base station: it spent nothing on this answer, whether or not it has a meter.
        ([answer(0, 1.0, 2.0), answer(1, 3.0, llm_forwards=0)], (4.0, 2.0, None), 6.0),
        ([answer(0, 1.0, llm_forwards=0), answer(1, 3.0, llm_forwards=0)], (4.0, 0.0, None), 4.0),
        ([answer(0, llm_forwards=0)], (None, None, None), None),
    ],
)
def test_sums(answers, parts, total):
    totals = MeasuredTotals.of(answers)
    assert (totals.device_j, totals.basestation_j, totals.machine_j) == parts
    assert totals.total_j == total


def test_joules_and_times_come_back_from_a_line():
    one = answer(
        3, 1.0, 2.0, started_unix_s=1.5e9, ended_unix_s=1.5e9 + 2, transmit_j=0.1, device_j=2.0, basestation_j=9.0
    )
    assert Sample.from_json(one.to_json()) == one
