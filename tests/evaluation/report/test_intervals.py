"""Intervals of ratios: they hold the ratio of totals, shrink with prompts, and pair η with hlm's prompts."""

import dataclasses

import numpy as np
import pytest

from evaluation.report.synthetic_study import V, answer, study
from uihlm_evaluation.quality.bootstrap import prompt_draws
from uihlm_evaluation.report.intervals import ratio_intervals
from uihlm_evaluation.results.policy_result import summarise
from uihlm_evaluation.results.totals import Bill, Totals
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import Stop
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.energy import energy_saving_ratio, paper_energy, paper_hlm_energy


def result(label, samples, hlm):
    return summarise(Row.of(label), samples, None, Bill(V, Totals.of(hlm)))


def test_every_draw_holds_as_many_prompts_as_there_are():
    draws = prompt_draws(7, seed=3, resamples=50)
    assert draws.shape == (50, 7)
    assert (draws.sum(axis=1) == 7).all()
    with pytest.raises(InvalidRequestError):
        prompt_draws(0)


def test_the_mean_is_the_results_own_value_and_lies_inside():
    run = study()
    ratios = ratio_intervals(run.results, run.samples, V)
    for row in run.results:
        for field in dataclasses.fields(ratios[row.row]):
            interval, value = getattr(ratios[row.row], field.name), getattr(row, field.name)
            if value is None:
                assert interval is None
            else:
                assert interval.mean == value
                assert interval.low - 1e-9 <= value <= interval.high + 1e-9


def test_equal_prompts_leave_no_doubt():
    hlm = [answer("hlm", prompt, 50, 50, 15) for prompt in range(10)]
    u = [answer("u", prompt, 50, 20, 10) for prompt in range(10)]
    ratios = ratio_intervals([result("hlm", hlm, hlm), result("u", u, hlm)], [*hlm, *u], V)["u"]
    expected = energy_saving_ratio(
        paper_energy(Totals.of(u).counts, 10 * 20 * V * 32, V), paper_hlm_energy(Totals.of(hlm).counts)
    )
    for interval, value in (
        (ratios.energy_saving_ratio, expected),
        (ratios.llm_forwards_per_token, 0.4),
        (ratios.throughput_paper_tok_s, 1 / (1.901 + 0.4 * 2.119)),
    ):
        assert (interval.low, interval.high) == pytest.approx((value, value))


def test_the_interval_of_eta_is_that_of_a_bootstrap_written_out():
    random = np.random.default_rng(1)
    uploads = random.integers(0, 40, 30)
    hlm = [answer("hlm", prompt, 50, 50, 10 + prompt % 9) for prompt in range(30)]
    u = [answer("u", prompt, 50, int(uploads[prompt]), int(uploads[prompt]) // 2) for prompt in range(30)]
    interval = ratio_intervals([result("hlm", hlm, hlm), result("u", u, hlm)], [*hlm, *u], V, seed=5)[
        "u"
    ].energy_saving_ratio
    saved = []
    for counts in prompt_draws(30, seed=5):

        def drawn(samples, counts=counts):
            return Totals.of(
                [sample for sample, n in zip(samples, counts, strict=True) for sample in [sample] * int(n)]
            )

        own = drawn(u)
        saved.append(
            energy_saving_ratio(paper_energy(own.counts, own.model_bits, V), paper_hlm_energy(drawn(hlm).counts))
        )
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(saved, (2.5, 97.5))))
    assert interval.high - interval.low > 0.05


def test_failed_prompts_do_not_count():
    hlm = [answer("hlm", prompt, 50, 50, 15) for prompt in range(5)]
    failed = dataclasses.replace(answer("u", 4, 9, 9, 9), stop=Stop.ERROR, error="lost")
    u = [*(answer("u", prompt, 50, 20, 10) for prompt in range(4)), failed]
    interval = ratio_intervals([result("hlm", hlm, hlm), result("u", u, hlm)], [*hlm, *u], V)[
        "u"
    ].llm_forwards_per_token
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.4, 0.4, 0.4))


def test_without_hlm_there_is_no_eta_and_llm_alone_has_no_lambda():
    u = [answer("u", prompt, 50, 20, 10) for prompt in range(4)]
    llm = [answer("llm", prompt, 50, 0, 0, alone=True) for prompt in range(4)]
    rows = [summarise(Row.of(name), own, None, Bill(V)) for name, own in (("u", u), ("llm", llm))]
    ratios = ratio_intervals(rows, [*u, *llm], V)
    assert ratios["u"].energy_saving_ratio is None
    assert ratios["llm"].throughput_paper_tok_s is None
    assert ratios["llm"].llm_forwards_per_token.mean == 1.0
