"""Attention collapse (the paper's Fig. 2): entropy and largest weight of the drafter's attention row by decoding step.

    entropy = -Σ_j a_j ln a_j,   a = the row averaged over heads, without the draft's own weight

Each answer gives one value a step; the line is their mean over prompts, the band its 95 % bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uihlm_evaluation.drawing.style import FigureDataError, footnote, new_figure, style, styled
from uihlm_evaluation.quality.bootstrap import prompt_draws
from uihlm_evaluation.report.rounds import Rounds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_CURVES = 6
_FEWEST_PROMPTS = 2


@dataclass(frozen=True, slots=True)
class AttentionTrace:
    """What one attention layer showed, one entry a token.

    Attributes:
        label: which layer, or which row of a run.
        prompt: the prompt's index, `[n]`.
        step: decoding step of the token in its answer, from 1, `[n]`.
        entropy_nat: entropy of its row, nats, `[n]`.
        max_weight: largest weight of its row, 0 … 1, `[n]`.
    """

    label: str
    prompt: Integers
    step: Integers
    entropy_nat: Floats
    max_weight: Floats


@dataclass(frozen=True, slots=True)
class Curve:
    """A mean over prompts with its 95 % band, by step.

    Attributes:
        step: `[t]`.
        mean, low, high: `[t]`.
        prompts: how many answers reach the step, `[t]`.
    """

    step: Integers
    mean: Floats
    low: Floats
    high: Floats
    prompts: Integers


def trace_of_rounds(rounds: Rounds) -> AttentionTrace:
    """Return the trace of the row that recorded attention for most tokens; rows of a run read one and the same layer.

    Raises:
        FigureDataError: if no row recorded any.
    """
    entropy, weight = rounds.column("attention_entropy"), rounds.column("attention_max")
    known = np.isfinite(entropy) & np.isfinite(weight)
    if not known.any():
        raise FigureDataError("no policy of the run recorded attention: run i or ui as well")
    row = int(np.argmax(np.bincount(rounds.row[known], minlength=len(rounds.labels))))
    mine = rounds.row == row
    prompts, answer = np.unique(rounds.prompt[mine], return_inverse=True)
    first = np.full(len(prompts), np.iinfo(np.int64).max)
    np.minimum.at(first, answer, rounds.position[mine])
    step = rounds.position[mine].astype(np.int64) - first[answer] + 1
    seen = known[mine]
    return AttentionTrace(
        f"policy {rounds.labels[row]}",
        rounds.prompt[mine][seen].astype(np.int64),
        step[seen],
        entropy[mine][seen],
        weight[mine][seen],
    )


def curve(prompt: Integers, step: Integers, values: Floats, seed: int = 0) -> Curve:
    """Return the mean of `values` `[n]` by step; steps that fewer than two answers reach have no interval and are left out.

    Raises:
        FigureDataError: if no step is left.
    """
    prompts, answer = np.unique(prompt, return_inverse=True)
    steps, column = np.unique(step, return_inverse=True)
    table = np.zeros((len(prompts), len(steps)))
    reached = np.zeros_like(table)
    table[answer, column] = values
    reached[answer, column] = 1.0
    counts = reached.sum(axis=0)
    keep = counts >= _FEWEST_PROMPTS
    if not keep.any():
        raise FigureDataError("attention by decoding step needs at least two answered prompts")
    table, reached, counts = table[:, keep], reached[:, keep], counts[keep]
    draws = prompt_draws(len(prompts), seed)
    with np.errstate(invalid="ignore"):
        means = (draws @ table) / (draws @ reached)
    # A draw that holds no answer of a step says nothing of it.
    low, high = np.nanpercentile(means, (2.5, 97.5), axis=0)
    return Curve(steps[keep].astype(np.int64), table.sum(axis=0) / counts, low, high, counts.astype(np.int64))


def attention_figure(traces: Sequence[AttentionTrace], seed: int = 0) -> Figure:
    """Return two panels: entropy in nats and largest weight against decoding step, a curve a trace.

    Of more than six traces six are drawn, evenly spread, and the figure says so.

    Raises:
        FigureDataError: without traces, or if one has less than two prompts.
    """
    if not traces:
        raise FigureDataError("the attention figure needs at least one trace, got none")
    # Evenly spread, first and last among them.
    chosen = sorted({round(place) for place in np.linspace(0, len(traces) - 1, min(MAX_CURVES, len(traces)))})
    fewest: Integers | None = None
    with styled():
        figure = new_figure(8.0, 3.6)
        panels = figure.subplots(1, 2)
        for number, index in enumerate(chosen):
            trace = traces[index]
            look = style(number)
            for axes, values in zip(panels, (trace.entropy_nat, trace.max_weight), strict=True):
                line = curve(trace.prompt, trace.step, values, seed)
                every = max(1, len(line.step) // 8)
                axes.fill_between(line.step, line.low, line.high, color=look.color, alpha=0.2, linewidth=0)
                axes.plot(
                    line.step,
                    line.mean,
                    color=look.color,
                    linestyle=look.line,
                    marker=look.marker,
                    markevery=(number % every, every),
                    label=trace.label,
                )
                fewest = line.prompts if fewest is None else fewest
        for axes, label, title in zip(
            panels,
            ("entropy of the attention row (nat)", "largest attention weight (0 … 1)"),
            ("(a) entropy", "(b) largest weight"),
            strict=True,
        ):
            axes.set_xlabel("decoding step t (tokens)")
            axes.set_ylabel(label)
            axes.set_title(title, loc="left")
            axes.set_ylim(bottom=0.0)
        panels[1].set_ylim(top=1.0)
        panels[0].legend(title=None if len(chosen) == len(traces) else f"{len(chosen)} of {len(traces)} shown")
        assert fewest is not None
        footnote(
            figure,
            f"Mean over prompts with 95 % bootstrap band; {fewest[0]} answers at the first step, {fewest[-1]} at the last.",
        )
    return figure
