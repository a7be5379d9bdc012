"""Frontiers: who is on them, intervals both ways, and labels that do not touch."""

import itertools

import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Annotation, Text

from evaluation.report.synthetic_study import V, grid, study
from uihlm_evaluation.drawing.style import FigureDataError
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.report.figures.frontier import (
    Point,
    energy_frontier_figure,
    forwards_frontier_figure,
    frontier,
)
from uihlm_evaluation.report.intervals import ratio_intervals

RUN = study()
RATIOS = ratio_intervals(RUN.results, RUN.samples, V)


def point(x, y):
    return Point(RUN.results[0], Interval(x, x, x), Interval(y, y, y))


def at(points):
    return [(p.x.mean, p.y.mean) for p in points]


def bars(axes):
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def labels(axes):
    return [child for child in axes.get_children() if isinstance(child, Annotation) and child.get_text()]


def test_the_frontier_holds_what_nothing_beats_in_both():
    points = [point(0, 5), point(1, 6), point(2, 4), point(3, 5), point(3, 3), point(4, 1)]
    assert at(frontier(points, more_is_better=True)) == [(1, 6), (3, 5), (4, 1)]
    assert at(frontier(points, more_is_better=False)) == [(0, 5), (1, 6)]


def test_every_row_with_an_eta_is_on_the_energy_figure_and_llm_is_a_line():
    figure = energy_frontier_figure(RUN.results, RATIOS, "roberta")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "energy saved against hlm, η (%), in the paper's cost model"
    assert axes.get_ylabel() == "BERTScore F1 (%)"
    assert sum(len(bar.lines[2][0].get_segments()) for bar in bars(axes)) == 25
    assert all(bar.has_xerr and bar.has_yerr for bar in bars(axes))
    llm = next(row for row in RUN.results if row.policy == "llm").bertscore_f1
    across = next(line for line in axes.get_lines() if line.get_label().startswith("llm alone"))
    assert across.get_ydata()[0] == pytest.approx(100 * llm.mean)
    assert "roberta" in figure.get_supxlabel()


def test_all_policies_are_on_the_forwards_figure():
    (axes,) = forwards_frontier_figure(RUN.results, RATIOS).axes
    assert axes.get_xlabel() == "LLM forwards per token"
    assert axes.get_ylabel() == "BERTScore F1 (%)"
    assert sum(len(bar.lines[2][0].get_segments()) for bar in bars(axes)) == len(RUN.results) == 26
    assert {"llm", "slm", "hlm", "u", "random rate=0.29"} < {label.get_text() for label in labels(axes)}


@pytest.mark.parametrize("make", [energy_frontier_figure, forwards_frontier_figure])
def test_no_two_labels_touch(make):
    figure = make(RUN.results, RATIOS)
    (axes,) = figure.axes
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    # An annotation's own extent reaches to its point: the text alone must not touch.
    texts = [Text.get_window_extent(label, renderer) for label in labels(axes)]
    assert len(texts) == 2 * 4 + sum(row.k is None for row in RUN.results) - (make is energy_frontier_figure)
    assert not [1 for a, b in itertools.combinations(texts, 2) if a.overlaps(b)]


def test_a_run_without_scores_or_hlm_is_refused_with_the_reason():
    bare = study(prompts=4, scored=False)
    with pytest.raises(FigureDataError, match="without scores"):
        forwards_frontier_figure(bare.results, ratio_intervals(bare.results, bare.samples, V))
    alone = study(prompts=4, rows=[row for row in grid() if row[0].policy == "ui"])
    with pytest.raises(FigureDataError, match="hlm row"):
        energy_frontier_figure(alone.results, ratio_intervals(alone.results, alone.samples, V))
