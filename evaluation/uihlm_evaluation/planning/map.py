"""The map: the best way over round trip × uplink rate, small multiples over load and the LLM's time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uihlm_evaluation.calibration.plan_figures import PlanFigures, scaled
from uihlm_evaluation.drawing.style import footnote, new_figure, saved, styled
from uihlm_evaluation.planning.equations import Conditions, Model
from uihlm_evaluation.planning.plan import Objective, plan
from uihlm_evaluation.planning.ways import Family
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import LinkSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RTTS_S = tuple(float(value) for value in np.linspace(0.0, 0.2, 21))
RATES_BIT_S = tuple(float(value) for value in np.geomspace(1e3, 1e6, 13))
LOADS = (1, 4, 16)
# Round trips that a name is as wide as.
_LABEL_CELLS = 5
# Times the measured LLM: 135 million parameters as it is, and what larger ones take.
LLM_TIMES = (1.0, 4.0, 16.0)

# Shades that a grey print keeps apart, lightest for the rival without an uplink.
_COLORS = {
    Family.LLM: "#f2f2f2",
    Family.WAITING: "#fdd9a0",
    Family.BLOCKS: "#e69f00",
    Family.FLIGHTS: "#7fb8dd",
    Family.TREES: "#0072b2",
    Family.SKIPPING: "#41ab5d",
    Family.SLM: "#111111",
}
_FAMILIES = tuple(_COLORS)

_OBJECTIVES = {
    Objective.TOKENS: "most tokens a second",
    Objective.JOULES: "fewest joules a token",
    Objective.FORWARDS: "fewest LLM forwards a token",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the multiples.

    Attributes:
        sessions: load.
        forward_s: of the LLM alone, one position.
        families: index of the best way's family in `Family`'s order of colours, `[rate, rtt]`.
        ways: its name, `[rate][rtt]`.
    """

    sessions: int
    forward_s: float
    families: npt.NDArray[np.int_]
    ways: tuple[tuple[str, ...], ...]


def panels(
    model: Model, conditions: Conditions, objective: Objective, risk: float, *, trees: bool = True
) -> list[list[Panel]]:
    """Return the best ways, `[load][LLM time]`; loads beyond a batch curve that was not measured are left out."""
    loads = LOADS if len(model.figures.load) > 1 else LOADS[:1]
    return [
        [_panel(model, conditions, objective, risk, sessions, factor, trees) for factor in LLM_TIMES]
        for sessions in loads
    ]


def _panel(
    model: Model,
    conditions: Conditions,
    objective: Objective,
    risk: float,
    sessions: int,
    factor: float,
    trees: bool,
) -> Panel:
    slower = model.of(scaled(model.figures, factor))
    rows = []
    for rate_bit_s in RATES_BIT_S:
        row = []
        for rtt_s in RTTS_S:
            link = at_rate(conditions.link, rate_bit_s, rtt_s)
            here = replace(conditions, link=link, sessions=sessions)
            row.append(plan(slower, here, objective, risk, trees=trees).best.way)
        rows.append(row)
    families = np.array([[_FAMILIES.index(way.family) for way in row] for row in rows])
    return Panel(sessions, slower.figures.forward_s, families, tuple(tuple(map(str, row)) for row in rows))


def at_rate(link: LinkSettings, rate_bit_s: float, rtt_s: float) -> LinkSettings:
    """Return a steady link of so many bit/s up and this round trip, all else as it is."""
    radio = replace(link.radio or RadioLink(), bandwidth_hz=1.0)
    radio = replace(radio, bandwidth_hz=rate_bit_s * link.devices / radio.rate_bit_s())
    return replace(link, radio=radio, rtt_s=rtt_s, trace=None, fading=FadingMode.NONE)


def map_figure(
    model: Model, conditions: Conditions, objective: Objective, risk: float, *, trees: bool = True
) -> Figure:
    """Return the map as a figure."""
    from matplotlib.patches import Patch

    grid = panels(model, conditions, objective, risk, trees=trees)
    with styled():
        figure = new_figure(9.0, 1.0 + 2.1 * len(grid))
        axes = figure.subplots(len(grid), len(LLM_TIMES), sharex=True, sharey=True, squeeze=False)
        for row, line in enumerate(grid):
            for column, panel in enumerate(line):
                _draw(axes[row][column], panel)
                if not column:
                    axes[row][column].set_ylabel(f"{_sessions(panel.sessions)}\nuplink, bit/s")
                if not row:
                    axes[row][column].set_title(f"LLM forward {1e3 * panel.forward_s:.3g} ms")
                if row == len(grid) - 1:
                    axes[row][column].set_xlabel("round trip, ms")
        seen = sorted({int(family) for line in grid for panel in line for family in panel.families.flat})
        legend = [Patch(facecolor=_COLORS[_FAMILIES[at]], edgecolor="0.4", label=_label(_FAMILIES[at])) for at in seen]
        figure.legend(handles=legend, loc="outside upper center", ncols=len(legend))
        footnote(figure, _note(model.figures, objective, risk))
    return figure


def draw_map(
    model: Model, conditions: Conditions, objective: Objective, risk: float, path: Path, *, trees: bool = True
) -> None:
    """Write the map into a file, SVG or PNG by its ending."""
    figure = map_figure(model, conditions, objective, risk, trees=trees)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(saved(figure, path.stem, path.suffix[1:]))


def _draw(axes: Axes, panel: Panel) -> None:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    rtts_ms = [1e3 * rtt_s for rtt_s in RTTS_S]
    colors = ListedColormap(list(_COLORS.values()))
    norm = BoundaryNorm([at - 0.5 for at in range(len(_FAMILIES) + 1)], len(_FAMILIES))
    axes.pcolormesh(rtts_ms, RATES_BIT_S, panel.families, cmap=colors, norm=norm, shading="nearest", rasterized=True)
    axes.set_yscale("log")
    axes.grid(visible=False)
    # Each way is named once, in the middle of the cells that are its own.
    for name in sorted({way for row in panel.ways for way in row}):
        cells = np.argwhere(np.array(panel.ways) == name)
        if np.ptp(cells[:, 1]) < _LABEL_CELLS:
            continue
        middle = cells[np.argmin(((cells - cells.mean(axis=0)) ** 2).sum(axis=1))]
        dark = _FAMILIES[int(panel.families[tuple(middle)])] in (Family.TREES, Family.SLM)
        text = name.removeprefix("hlm, ")
        place = rtts_ms[middle[1]], RATES_BIT_S[middle[0]]
        axes.annotate(text, place, ha="center", va="center", fontsize=7.5, color="white" if dark else "0.1")


def _sessions(count: int) -> str:
    return "alone" if count == 1 else f"{count} sessions"


def _label(family: Family) -> str:
    return "the LLM alone" if family is Family.LLM else family.value


def _note(figures: PlanFigures, objective: Objective, risk: float) -> str:
    lossless = "lossless ways alone" if risk == 0.0 else f"risk of skipping up to {risk:g}"
    return (
        f"Best is {_OBJECTIVES[objective]}; {lossless}. Acceptance {figures.acceptance:.2f}, a draft "
        f"{1e3 * figures.draft_s:.3g} ms, a further LLM position {figures.position_s / figures.forward_s:.2f} of a forward; "
        f"load by the measured batch curve. Measured {figures.measured}."
    )
