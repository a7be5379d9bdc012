"""All figures of a run: drawn from its folder, with a caption each; what the run has no data for is left out by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uihlm_evaluation.calibration.profile import PROFILE
from uihlm_evaluation.drawing.style import FigureDataError, save
from uihlm_evaluation.report.figures.attention import attention_figure, trace_of_rounds
from uihlm_evaluation.report.figures.frontier import energy_frontier_figure, forwards_frontier_figure
from uihlm_evaluation.report.figures.grid import bertscore_figure, energy_figure, speed_figure
from uihlm_evaluation.report.figures.planned import run_map
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.intervals import RatioIntervals, ratio_intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class DrawnFigure:
    """A figure of a run.

    Attributes:
        name: of its files.
        caption: what it shows, as a sentence.
        figure: a matplotlib figure.
    """

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class FigureSet:
    """The figures of a run.

    Attributes:
        drawn: those that its data allow.
        left_out: why each of the others is not there, by name.
    """

    drawn: tuple[DrawnFigure, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WrittenFigures:
    """What `write_figures` did.

    Attributes:
        paths: files written, SVG and PNG of each figure.
        left_out: why each figure that is missing is missing, by name.
    """

    paths: tuple[Path, ...]
    left_out: Mapping[str, str]


def draw_figures(run: RunFolder) -> FigureSet:
    """Return every figure that the run has data for."""
    drawn, left_out = [], {}
    for name, caption, make in _recipes(run):
        try:
            drawn.append(DrawnFigure(name, caption, make()))
        except FigureDataError as error:
            left_out[name] = str(error)
    return FigureSet(tuple(drawn), left_out)


def write_figures(run: RunFolder, output_dir: Path) -> WrittenFigures:
    """Write every figure that the run has data for into a folder, made if it is not there, as SVG and PNG."""
    figures = draw_figures(run)
    output_dir.mkdir(parents=True, exist_ok=True)
    paths = [path for entry in figures.drawn for path in save(entry.figure, entry.name, output_dir)]
    return WrittenFigures(tuple(paths), figures.left_out)


def _recipes(run: RunFolder) -> list[tuple[str, str, Callable[[], Figure]]]:
    results = run.results
    encoder = run.document["provenance"].get("metric_hash")
    # As the tables beside them.
    seed = int(run.document["config"]["selection"]["seed"])

    @functools.cache
    def ratios() -> dict[str, RatioIntervals]:
        if all(sample.failed for sample in run.samples):
            raise FigureDataError("no prompt of the run was answered")
        return ratio_intervals(results, run.samples, run.vocabulary_size, seed)

    # Drawn where the run's folder holds a profile.
    planned = [("plan", "The best way over round trip, uplink rate, load and the LLM's time.", lambda: run_map(run))]
    return [
        *(planned if (run.path / PROFILE).is_file() else []),
        (
            "attention",
            "Attention collapse: entropy and largest weight of the drafter's attention row by decoding step.",
            lambda: attention_figure([trace_of_rounds(run.rounds)], seed),
        ),
        ("bertscore", "BERTScore F1 by k and γ.", lambda: bertscore_figure(results, encoder)),
        ("speed", "Latency and throughput by k and γ.", lambda: speed_figure(results, ratios())),
        (
            "energy",
            "Energy saved against hlm, in the paper's cost model, by k and γ.",
            lambda: energy_figure(results, ratios()),
        ),
        (
            "frontier_energy",
            "Quality against the energy saved: up and to the right is better.",
            lambda: energy_frontier_figure(results, ratios(), encoder),
        ),
        (
            "frontier_forwards",
            "Quality against the LLM's work: up and to the left is better.",
            lambda: forwards_frontier_figure(results, ratios(), encoder),
        ),
    ]
