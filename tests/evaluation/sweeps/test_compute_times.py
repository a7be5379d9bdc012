"""Compute times measured alone: a mean a kind of row, a line through the forwards, and every row charged as its kind."""

from dataclasses import replace

import pytest

from sweep_workers import sample
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.sweeps.compute_times import PROMPTS, ComputeTimes, measure
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.timing import TimingProfile

EXAMPLES = [Example(index, "say", "", "") for index in range(5)]
ROWS = [Row.of(name) for name in ("slm", "llm", "hlm", "u", "ui", "i")]
DRAFT_S = {"slm": 0.010, "u": 0.012, "ui": 0.020, "i": 0.019}


class Machine:
    """Answers whose seconds are known."""

    def __init__(self):
        self.asked = []

    def answer(self, label, example):
        self.asked.append((label, example.index))
        if label == "llm":
            # Forwards of 1, 2, 3 positions at 5 ms + 2 ms a further one.
            records = [
                TokenRecord(n, 7, 1, Origin.LLM, forward_s=0.005 + 0.002 * n, llm_forwards=1, llm_positions=1 + n)
                for n in range(3)
            ]
        else:
            first = TokenRecord(0, 7, None, Origin.LOCAL, draft_s=9.0)
            records = [first, *(TokenRecord(n, 7, None, Origin.LOCAL, draft_s=DRAFT_S[label]) for n in (1, 2))]
        return sample(label, example, len(records)), records


def measured():
    machine = Machine()
    return measure(ROWS, EXAMPLES, machine.answer), machine


def test_one_row_of_each_kind_answers_the_first_prompts():
    _, machine = measured()
    assert machine.asked == [(label, n) for label in ("slm", "u", "ui", "i", "llm") for n in range(PROMPTS)]


def test_draft_is_the_mean_without_the_prompts_own_prefill():
    times, _ = measured()
    assert {row.label: times.of(row).draft_s for row in ROWS if row.policy != "llm"} == pytest.approx(
        {**DRAFT_S, "hlm": 0.010}
    )


def test_forward_is_a_line_through_positions():
    times, _ = measured()
    assert (times.forward_s, times.position_s) == (pytest.approx(0.005), pytest.approx(0.002))
    assert times.of(ROWS[0]) == TimingProfile(0.010, times.forward_s, times.position_s)


@pytest.mark.parametrize(("policy", "like"), [("confidence", "slm"), ("random", "slm"), ("u-random", "u")])
def test_row_added_later_is_charged_as_its_like(policy, like):
    times, _ = measured()
    added = Row.of(policy, PolicySettings(rate=0.123))
    assert times.of(added).draft_s == pytest.approx(DRAFT_S[like])


def test_times_survive_their_file(tmp_path):
    times, _ = measured()
    times.write(tmp_path / "times.json")
    assert ComputeTimes.read(tmp_path / "times.json") == times
    (tmp_path / "times.json").write_text("[]")
    with pytest.raises(InvalidRequestError, match="compute times"):
        ComputeTimes.read(tmp_path / "times.json")


def test_machine_that_answers_nothing_has_no_times():
    def failing(label, example):
        return replace(sample(label, example, 0), error="no weights"), []

    with pytest.raises(InvalidRequestError, match="no weights"):
        measure(ROWS, EXAMPLES, failing)


def test_fixed_times_are_those_of_every_row():
    times = ComputeTimes.fixed(ROWS, 0.1, 0.2, 0.3)
    assert {times.of(row) for row in [*ROWS, Row.of("confidence")]} == {TimingProfile(0.1, 0.2, 0.3)}


def test_a_row_that_nothing_was_timed_for_is_a_sentence():
    times = ComputeTimes.fixed([Row.of("u", PolicySettings())], 0.01, 0.02, 0.0)
    with pytest.raises(InvalidRequestError, match=r"nothing was timed .* --controls"):
        times.of(Row.of("random", PolicySettings(rate=0.5)))
