"""What each policy gives for what it costs: quality against energy saving, and against LLM forwards per token.

A row is on the frontier if no other row is at least as good in both and better in one; the frontier is drawn through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uihlm_evaluation.drawing.label_places import PointLabel, place_labels
from uihlm_evaluation.drawing.style import (
    FAINT,
    REFERENCE,
    FigureDataError,
    errors,
    footnote,
    new_figure,
    style,
    styled,
)
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.report.figures.grid import series_of
from uihlm_evaluation.report.intervals import RatioIntervals
from uihlm_evaluation.results.policy_result import LLM, PolicyResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTE = "Bars: 95 % bootstrap interval over prompts. Grey band: the frontier by point estimates."
_BARS: dict[str, Any] = {"linestyle": "none", "elinewidth": 0.6, "alpha": 0.55}


@dataclass(frozen=True, slots=True)
class Point:
    """A row with its cost or saving and its quality."""

    row: PolicyResult
    x: Interval
    y: Interval


def frontier(points: Sequence[Point], more_is_better: bool) -> list[Point]:
    """Return the points that no other one beats in x and quality, in the order of x."""
    sign = 1.0 if more_is_better else -1.0
    best = float("-inf")
    kept = []
    # From the best x on, every point that raises the quality.
    for point in sorted(points, key=lambda p: (sign * p.x.mean, p.y.mean), reverse=True):
        if point.y.mean > best:
            kept.append(point)
            best = point.y.mean
    return sorted(kept, key=lambda p: p.x.mean)


def energy_frontier_figure(
    results: Sequence[PolicyResult], ratios: Mapping[str, RatioIntervals], encoder: str | None = None
) -> Figure:
    """Return BERTScore F1 against η, both percent; `llm`, which has no η, is a line across with its interval.

    Raises:
        FigureDataError: if no row has both, so without scores or without an `hlm` row.
    """
    points = _points(results, {label: ratio.energy_saving_ratio for label, ratio in ratios.items()})
    if not points:
        raise FigureDataError("no row has both a BERTScore and η: the run lacks scores or an hlm row")
    with styled():
        figure, axes = _frame("energy saved against hlm, η (%), in the paper's cost model", encoder)
        llm = next((row.bertscore_f1 for row in results if row.policy == LLM), None)
        if llm is not None:
            axes.axhspan(100 * llm.low, 100 * llm.high, color="0.95", zorder=0)
            axes.axhline(100 * llm.mean, color=REFERENCE, linestyle=(0, (1, 2)), label="llm alone: no uplink, no η")
        _draw(figure, axes, results, points, True, 100.0)
    return figure


def forwards_frontier_figure(
    results: Sequence[PolicyResult], ratios: Mapping[str, RatioIntervals], encoder: str | None = None
) -> Figure:
    """Return BERTScore F1, percent, against LLM forwards per token, every policy on it.

    Raises:
        FigureDataError: if no row has both, so without scores.
    """
    points = _points(results, {label: ratio.llm_forwards_per_token for label, ratio in ratios.items()})
    if not points:
        raise FigureDataError("no row has a BERTScore: the run was made without scores")
    with styled():
        figure, axes = _frame("LLM forwards per token", encoder)
        _draw(figure, axes, results, points, False, 1.0)
    return figure


def _points(results: Sequence[PolicyResult], x: Mapping[str, Interval | None]) -> list[Point]:
    found = []
    for row in results:
        across, up = x.get(row.row), row.bertscore_f1
        if across is not None and up is not None:
            found.append(Point(row, across, up))
    return found


def _frame(x_label: str, encoder: str | None) -> tuple[Figure, Axes]:
    figure = new_figure(7.2, 4.8)
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel("BERTScore F1 (%)")
    footnote(figure, NOTE + (f" Encoder: {encoder}." if encoder else ""))
    return figure, axes


def _draw(
    figure: Figure,
    axes: Axes,
    results: Sequence[PolicyResult],
    points: Sequence[Point],
    more_is_better: bool,
    scale: float,
) -> None:
    """Draw the frontier, a line a policy and γ with its first and last k named, and the other policies by name."""
    by_row = {point.row.row: point for point in points}
    edge = frontier(points, more_is_better)
    axes.plot(
        *zip(*(_place(point, scale) for point in edge), strict=True),
        color=FAINT,
        linewidth=6,
        alpha=0.5,
        solid_capstyle="round",
        zorder=0.8,
        label="frontier",
    )
    names, drawn = [], []
    for number, line in enumerate(series_of(results)):
        look = style(number)
        own = [by_row[row.row] for row in line.rows if row.row in by_row]
        if not own:
            continue
        places = [_place(point, scale) for point in own]
        _bars(axes, own, scale, look.color)
        axes.plot(
            *zip(*places, strict=True), color=look.color, marker=look.marker, linestyle=look.line, label=line.label
        )
        drawn.append(places)
        # The order along a line tells the k between its ends.
        ends = own[:: max(1, len(own) - 1)]
        names += [PointLabel(*_place(point, scale), f"k = {point.row.k:g}", look.color) for point in ends]
    others = [point for point in points if point.row.k is None]
    _bars(axes, others, scale, REFERENCE)
    for point in others:
        axes.plot(*_place(point, scale), color=REFERENCE, marker="h", markerfacecolor="white", linestyle="none")
    names = [PointLabel(*_place(point, scale), point.row.row, REFERENCE) for point in others] + names
    figure.legend(loc="outside upper center", ncols=6)
    bars = [bar for point in points for bar in _crossbar(point, scale)]
    drawn.append([_place(point, scale) for point in edge])
    place_labels(axes, names, [_place(point, scale) for point in points], [*drawn, *bars])


def _crossbar(point: Point, scale: float) -> list[list[tuple[float, float]]]:
    x, y = _place(point, scale)
    across = [(scale * point.x.low, y), (scale * point.x.high, y)]
    return [across, [(x, 100.0 * point.y.low), (x, 100.0 * point.y.high)]]


def _place(point: Point, scale: float) -> tuple[float, float]:
    return scale * point.x.mean, 100.0 * point.y.mean


def _bars(axes: Axes, points: Sequence[Point], scale: float, color: str) -> None:
    if points:
        axes.errorbar(
            [scale * point.x.mean for point in points],
            [100.0 * point.y.mean for point in points],
            xerr=errors([point.x for point in points], scale),
            yerr=errors([point.y for point in points], 100.0),
            color=color,
            zorder=1,
            **_BARS,
        )
