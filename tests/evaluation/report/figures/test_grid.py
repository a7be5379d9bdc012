"""Figures by k and γ: a line a policy and γ with its intervals, other policies by name, units on every axis."""

import dataclasses
import itertools

import pytest
from matplotlib.container import ErrorbarContainer

from evaluation.report.synthetic_study import V, grid, study
from uihlm_evaluation.drawing.style import FigureDataError
from uihlm_evaluation.report.figures.grid import bertscore_figure, energy_figure, series_of, speed_figure
from uihlm_evaluation.report.intervals import ratio_intervals

RUN = study()
RATIOS = ratio_intervals(RUN.results, RUN.samples, V)
LINES = ["ui, γ = 1.5", "ui, γ = 1", "ui, γ = 0.5", "i, γ = 1"]


def bars(axes):
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def lengths(container):
    """The y extents of the bars of one series."""
    return [segment[1][1] - segment[0][1] for segment in container.lines[2][0].get_segments()]


def test_rows_that_differ_in_k_alone_are_one_line_in_the_order_of_k():
    lines = series_of(RUN.results[::-1])
    assert [line.label for line in lines] == LINES
    assert [row.k for row in lines[0].rows] == [3, 5, 7, 9, 11]


def test_two_thresholds_of_u_are_two_lines():
    other = [dataclasses.replace(row, theta_u=0.3) for row in RUN.results if row.policy == "ui" and row.gamma == 1.0]
    labels = [line.label for line in series_of([*RUN.results, *other])]
    assert labels[1:3] == ["ui, γ = 1, θ_u = 0.3", "ui, γ = 1, θ_u = 0.58"]


def test_bertscore_has_four_lines_and_every_other_policy_with_intervals():
    figure = bertscore_figure(RUN.results, "roberta")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "BERTScore F1 (%)"
    assert axes.get_xlabel().startswith("k (attention weights that must exceed θ_imp)")
    assert [bar.get_label() for bar in bars(axes)][:4] == LINES
    assert len(bars(axes)) == 4 + 6
    assert [len(lengths(bar)) for bar in bars(axes)] == [5] * 4 + [1] * 6
    first = RUN.results[[row.row for row in RUN.results].index("ui k=3 γ=1.5")].bertscore_f1
    assert lengths(bars(axes)[0])[0] == pytest.approx(100 * (first.high - first.low))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        *("3", "5", "7", "9", "11"), "llm", "slm", "hlm", "u", "random\nrate=0.29", "random\nrate=0.46",
    ]  # fmt: skip
    assert "roberta" in figure.get_supxlabel()


def test_speed_shows_latency_and_both_throughputs_with_the_papers_lambda():
    figure = speed_figure(RUN.results, RATIOS)
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure.axes] == [
        "latency (s/prompt)", "throughput, run's clock (tokens/s)", "λ, Eq. (3) (tokens/s)",
    ]  # fmt: skip
    # llm has no λ.
    assert [len(bars(axes)) for axes in figure.axes] == [10, 10, 9]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "log", "linear"]
    assert all(length > 0 for bar in bars(figure.axes[1])[:4] for length in lengths(bar))
    crosses = [line for line in figure.axes[2].get_lines() if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == 23


def test_energy_is_in_percent_with_the_papers_values_beside():
    (axes,) = energy_figure(RUN.results, RATIOS).axes
    assert axes.get_ylabel() == "energy saved\nagainst hlm, η (%)"
    slm = next(row for row in RUN.results if row.policy == "slm")
    assert any(bar.lines[0].get_ydata()[0] == pytest.approx(100 * slm.energy_saving_ratio) for bar in bars(axes))
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == 22


def test_series_differ_without_colour():
    (axes,) = bertscore_figure(RUN.results).axes
    looks = [(bar.lines[0].get_marker(), str(bar.lines[0]._unscaled_dash_pattern)) for bar in bars(axes)[:4]]
    assert len({marker for marker, _ in looks}) == len({dash for _, dash in looks}) == 4


def test_bars_of_one_k_do_not_cover_each_other():
    (axes,) = bertscore_figure(RUN.results).axes
    starts = [bar.lines[0].get_xdata()[0] for bar in bars(axes)[:4]]
    assert min(b - a for a, b in itertools.pairwise(starts)) > 0.1


def test_a_run_without_k_scores_or_hlm_is_refused_with_the_reason():
    bare = study(prompts=4, rows=[row for row in grid() if row[0].policy in ("slm", "llm", "u")])
    with pytest.raises(FigureDataError, match="no row has k"):
        bertscore_figure(bare.results)
    with pytest.raises(FigureDataError, match="no row has a value of BERTScore"):
        bertscore_figure(study(prompts=4, scored=False).results)
    alone = study(prompts=4, rows=[row for row in grid() if row[0].policy == "ui"])
    with pytest.raises(FigureDataError, match="no row has a value of energy saved"):
        energy_figure(alone.results, ratio_intervals(alone.results, alone.samples, V))
