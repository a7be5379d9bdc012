"""Quality, latency, throughput and energy by k and γ (the paper's Fig. 3 a–c), the other policies beside them.

Importance policies stand at their k, one line a policy and γ; the others stand to the right, each under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from uihlm_evaluation.report.intervals import RatioIntervals
from uihlm_evaluation.report.table_one import table_one
from uihlm_evaluation.results.policy_result import HLM, LLM, PolicyResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLM = "slm"
NOTE = "Bars: 95 % bootstrap interval over prompts. Dashed across: slm, hlm, llm."
_DODGE = 0.16  # of the distance between two k

Value = Callable[[PolicyResult], Interval | None]
# The paper's value by policy, k and γ; then a panel: value, factor, label, the paper's values.
Paper = Mapping[tuple[str, float | None, float | None], float]
Panel = tuple[Value, float, str, Paper | None]


@dataclass(frozen=True, slots=True)
class Series:
    """Rows that differ in k alone, by k.

    Attributes:
        label: what the legend calls them: policy and γ, and θ_u where the policy stands there with several.
        rows: in the order of k.
    """

    label: str
    rows: tuple[PolicyResult, ...]


def series_of(results: Sequence[PolicyResult]) -> tuple[Series, ...]:
    """Return the rows that have k, as lines: `ui` first, the largest γ first within a policy."""
    lines: dict[tuple[str, float | None, float | None], list[PolicyResult]] = {}
    for row in results:
        if row.k is not None:
            lines.setdefault((row.policy, row.gamma, row.theta_u), []).append(row)
    order = sorted(lines, key=lambda key: (key[0] != "ui", key[0], -(key[1] or 0.0), key[2] or 0.0))
    return tuple(
        Series(_name(*key, several=len({k[2] for k in lines if k[0] == key[0]}) > 1), tuple(sorted(lines[key], key=_k)))
        for key in order
    )


def _name(policy: str, gamma: float | None, theta_u: float | None, several: bool) -> str:
    parts = [policy]
    if gamma is not None:
        parts.append(f"γ = {gamma:g}")
    if several and theta_u is not None:
        parts.append(f"θ_u = {theta_u:g}")
    return ", ".join(parts)


def _k(row: PolicyResult) -> float:
    return row.k or 0.0


def bertscore_figure(results: Sequence[PolicyResult], encoder: str | None = None) -> Figure:
    """Return BERTScore F1, percent, by k and γ.

    Raises:
        FigureDataError: if no row has k, or none was scored.
    """
    return _stack(
        results,
        [(lambda row: row.bertscore_f1, 100.0, "BERTScore F1 (%)", None)],
        NOTE + (f" Encoder: {encoder}." if encoder else ""),
    )


def speed_figure(results: Sequence[PolicyResult], ratios: Mapping[str, RatioIntervals]) -> Figure:
    """Return three panels by k and γ: latency a prompt, throughput on the run's clock, and λ of Eq. (3) beside the paper's.

    Raises:
        FigureDataError: if no row has k, or no prompt was answered.
    """
    paper: Paper = {(row.policy, row.k, row.gamma): row.throughput_tok_s for row in table_one()}
    return _stack(
        results,
        [
            (lambda row: row.latency_s, 1.0, "latency (s/prompt)", None),
            (lambda row: ratios[row.row].throughput_tok_s, 1.0, "throughput, run's\nclock (tokens/s)", None),
            (lambda row: ratios[row.row].throughput_paper_tok_s, 1.0, "λ, Eq. (3)\n(tokens/s)", paper),
        ],
        NOTE + " Crosses: the paper's Table I, another pair of models.",
        logarithmic=(0, 1),
    )


def energy_figure(results: Sequence[PolicyResult], ratios: Mapping[str, RatioIntervals]) -> Figure:
    """Return η, percent of `hlm`'s energy in the paper's cost model, by k and γ, beside the paper's.

    Raises:
        FigureDataError: if no row has k, or the run has no `hlm` row.
    """
    paper: Paper = {
        (row.policy, row.k, row.gamma): row.energy_saving_pct
        for row in table_one()
        if row.energy_saving_pct is not None
    }
    return _stack(
        results,
        [(lambda row: ratios[row.row].energy_saving_ratio, 100.0, "energy saved\nagainst hlm, η (%)", paper)],
        NOTE + " Crosses: the paper's Table I, another pair of models. llm has no uplink and no η.",
    )


def _stack(
    results: Sequence[PolicyResult], panels: Sequence[Panel], note: str, logarithmic: Sequence[int] = ()
) -> Figure:
    """Return the panels above each other over one axis of k and policies."""
    lines = series_of(results)
    if not lines:
        raise FigureDataError("no row has k: the run holds no policy that looks at importance")
    others = [row for row in results if row.k is None]
    for value, _, label, _ in panels:
        if not any(value(row) is not None for row in results):
            raise FigureDataError(f"no row has a value of {' '.join(label.split())}")
    with styled():
        slots = len(_places(lines)) + len(others)
        figure = new_figure(max(7.2, 1.2 + 0.6 * slots), 3.4 if len(panels) == 1 else 1.2 + 1.9 * len(panels))
        stacked = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for number, (axes, (value, scale, label, paper)) in enumerate(zip(stacked, panels, strict=True)):
            if number in logarithmic:
                _plain_decades(axes)
            _panel(axes, lines, others, value, scale, paper)
            axes.set_ylabel(label)
            axes.grid(axis="x", visible=False)
        _name_places(stacked[-1], lines, others)
        handles, labels = stacked[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(5, len(labels)))
        footnote(figure, note)
    return figure


def _places(lines: Sequence[Series]) -> dict[float, int]:
    """Return where each k stands: evenly, whatever the distances between them."""
    return {
        k: place for place, k in enumerate(sorted({row.k for line in lines for row in line.rows if row.k is not None}))
    }


def _panel(
    axes: Axes,
    lines: Sequence[Series],
    others: Sequence[PolicyResult],
    value: Value,
    scale: float,
    paper: Paper | None,
) -> None:
    places = _places(lines)
    for number, line in enumerate(lines):
        look = style(number)
        dodge = _DODGE * (number - (len(lines) - 1) / 2)
        known = [(places[row.k], interval) for row in line.rows if row.k is not None and (interval := value(row))]
        if known:
            axes.errorbar(
                [place + dodge for place, _ in known],
                [scale * interval.mean for _, interval in known],
                yerr=errors([interval for _, interval in known], scale),
                color=look.color,
                marker=look.marker,
                linestyle=look.line,
                elinewidth=0.9,
                capsize=2,
                label=line.label,
            )
        if paper:
            told = [
                (places[row.k] + dodge, paper[row.policy, row.k, row.gamma])
                for row in line.rows
                if row.k is not None and (row.policy, row.k, row.gamma) in paper
            ]
            _crosses(axes, told, look.color)
    for offset, row in enumerate(others):
        interval = value(row)
        place = _first_other(places) + offset
        if interval is not None:
            _other(axes, place, interval, scale, row.policy)
        if paper and (row.policy, None, None) in paper:
            _crosses(axes, [(place, paper[row.policy, None, None])], REFERENCE)
    if others:
        axes.axvline(len(places) - 0.25, color=FAINT, linewidth=0.8)


def _other(axes: Axes, place: float, interval: Interval, scale: float, policy: str) -> None:
    axes.errorbar(
        [place],
        [scale * interval.mean],
        yerr=errors([interval], scale),
        color=REFERENCE,
        marker="h",
        markerfacecolor="white",
        linestyle="none",
        elinewidth=0.9,
        capsize=2,
    )
    if policy in (SLM, HLM, LLM):
        # The ends of the scale, to be read off across the panel.
        axes.axhline(scale * interval.mean, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)


def _crosses(axes: Axes, told: Sequence[tuple[float, float]], color: str) -> None:
    if told:
        axes.plot([x for x, _ in told], [y for _, y in told], "x", color=color, markersize=5, alpha=0.8)


def _first_other(places: Mapping[float, int]) -> float:
    return len(places) + 0.5


def _name_places(axes: Axes, lines: Sequence[Series], others: Sequence[PolicyResult]) -> None:
    places = _places(lines)
    ticks = [*map(float, places.values()), *(_first_other(places) + offset for offset in range(len(others)))]
    # A knob goes below the policy's name.
    names = [*(f"{k:g}" for k in places), *(row.row.replace(" ", "\n") for row in others)]
    axes.set_xticks(ticks, names)
    for tick in axes.get_xticklabels()[len(places) :]:
        tick.set_fontsize(7.5)
    axes.set_xlabel("k (attention weights that must exceed θ_imp)" + (" | other policies" if others else ""))


def _plain_decades(axes: Axes) -> None:
    """Make the y axis logarithmic with plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, LogFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(LogFormatter())
