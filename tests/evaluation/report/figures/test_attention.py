"""The attention figure: means over prompts by step with a band, axes with units, a curve a layer."""

import numpy as np
import pytest

from evaluation.report.synthetic_study import attention_rounds, study
from uihlm_evaluation.drawing.style import FigureDataError
from uihlm_evaluation.report.figures.attention import AttentionTrace, attention_figure, curve, trace_of_rounds

ANSWERS = np.array([12, 20, 20, 9])


def trace(label, prompts=6, steps=10):
    prompt = np.repeat(np.arange(prompts), steps)
    step = np.tile(np.arange(1, steps + 1), prompts)
    return AttentionTrace(label, prompt, step, 0.1 * step + 0.05 * prompt, 0.9 - 0.01 * step - 0.01 * prompt)


def test_steps_count_from_the_first_token_of_each_answer():
    rounds = attention_rounds(["slm", "i k=3"], ANSWERS, first_position=77)
    found = trace_of_rounds(rounds)
    assert found.label == "policy i k=3"
    assert [found.step[found.prompt == prompt].tolist() for prompt in range(4)] == [
        list(range(1, n + 1)) for n in ANSWERS
    ]


def test_a_token_without_attention_shifts_no_step():
    rounds = attention_rounds(["i k=3"], ANSWERS)
    rounds.column("attention_entropy")[:3] = np.nan
    assert trace_of_rounds(rounds).step[0] == 4


def test_a_run_without_attention_says_what_to_run():
    with pytest.raises(FigureDataError, match="run i or ui"):
        trace_of_rounds(study(prompts=3, rounds=False).rounds)


def test_the_curve_is_the_mean_over_prompts_inside_its_band():
    t = trace("x")
    line = curve(t.prompt, t.step, t.entropy_nat)
    assert line.step.tolist() == list(range(1, 11))
    assert line.mean == pytest.approx(0.1 * line.step + 0.125)
    assert (line.low < line.mean).all() and (line.mean < line.high).all()
    # Six prompts 0.05 apart: the mean of a resample stays within their range.
    assert (line.low >= 0.1 * line.step).all() and (line.high <= 0.1 * line.step + 0.25).all()


def test_a_step_that_one_answer_alone_reaches_is_left_out():
    prompt, step = np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 1, 2])
    line = curve(prompt, step, np.arange(5.0))
    assert (line.step.tolist(), line.prompts.tolist(), line.mean.tolist()) == ([1, 2], [2, 2], [1.5, 2.5])
    with pytest.raises(FigureDataError, match="two answered prompts"):
        curve(np.zeros(3, np.int64), np.arange(3), np.arange(3.0))


def test_axes_have_units_and_each_curve_its_band():
    figure = attention_figure([trace("layer 3"), trace("layer 22")])
    entropy, weight = figure.axes
    assert entropy.get_xlabel() == weight.get_xlabel() == "decoding step t (tokens)"
    assert entropy.get_ylabel() == "entropy of the attention row (nat)"
    assert weight.get_ylabel() == "largest attention weight (0 … 1)"
    for axes in figure.axes:
        assert [line.get_label() for line in axes.get_lines()] == ["layer 3", "layer 22"]
        assert len(axes.collections) == 2
    assert "6 answers at the first step, 6 at the last" in figure.get_supxlabel()


def test_of_many_layers_six_are_drawn_and_the_figure_says_so():
    axes = attention_figure([trace(f"layer {n}") for n in range(26)]).axes[0]
    assert [line.get_label() for line in axes.get_lines()] == [f"layer {n}" for n in (0, 5, 10, 15, 20, 25)]
    assert axes.get_legend().get_title().get_text() == "6 of 26 shown"
    assert len({(line.get_marker(), line.get_color()) for line in axes.get_lines()}) == 6
    with pytest.raises(FigureDataError):
        attention_figure([])
