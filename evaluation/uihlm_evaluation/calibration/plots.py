"""Calibration's three figures: the reliability of u, the importance curves, and how attention collapses.

Each is written as SVG and PNG, and reads in grey: series differ by marker and dash, not by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uihlm_device.rules.importance import Readout
from uihlm_evaluation.calibration.curves import PAPER_UPLOAD_RATES
from uihlm_evaluation.calibration.findings import Findings
from uihlm_evaluation.calibration.profile import Profile
from uihlm_evaluation.calibration.trace import Trace
from uihlm_evaluation.quality.bootstrap import Interval

RELIABILITY, IMPORTANCE, COLLAPSE = "reliability", "importance", "collapse"
_MARKERS = ("o", "s", "^", "D", "v")
_DASHES = ("-", "--", ":")
_DPI = 150


def draw(findings: Findings, profile: Profile, trace: Trace, output: Path) -> list[Path]:
    """Write the figures into a folder and return their paths."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    paths: list[Path] = []
    painters: tuple[tuple[str, Callable[[Any], None], tuple[float, float]], ...] = (
        (RELIABILITY, lambda figure: _reliability(figure, findings), (5.5, 4.2)),
        (IMPORTANCE, lambda figure: _importance(figure, findings, profile), (9.5, 3.8)),
        (COLLAPSE, lambda figure: _collapse(figure, trace, profile), (9.5, 3.8)),
    )
    # Text stays text in an SVG, and two drawings of one trace are the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "uihlm", "font.size": 9}):
        for name, paint, size in painters:
            figure = Figure(figsize=size, layout="constrained")
            paint(figure)
            for ending, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                path = output / f"{name}.{ending}"
                figure.savefig(path, dpi=_DPI, metadata=metadata)
                paths.append(path)
    return paths


def _reliability(figure: Any, findings: Findings) -> None:
    """Mean rejection probability by bin of u, with the line and the thresholds; how many tokens, below."""
    law = findings.law
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    bins = law.reliability
    u = [b.u for b in bins]
    axes.errorbar(
        u,
        [b.reject_prob.mean for b in bins],
        yerr=_bars([b.reject_prob for b in bins]),
        fmt="o",
        color="black",
        markersize=4,
        capsize=2,
        linewidth=0.8,
        label="bin mean, 95 %",
    )
    ends = np.array([0.0, 1.0])
    a, b = law.probability.a.mean, law.probability.b.mean
    axes.plot(ends, a * ends + b, color="0.35", label=f"{a:.2f}·u {'−' if b < 0 else '+'} {abs(b):.2f}")
    for dash, outcome in zip(_DASHES, findings.thresholds, strict=True):
        if outcome.theta_u is not None:
            label = f"θ_u {outcome.name.value} = {outcome.theta_u.mean:.2f}"
            axes.axvline(outcome.theta_u.mean, color="0.6", linestyle=dash, linewidth=1.2, label=label)
    axes.set(ylabel="rejection probability", ylim=(0, 1), xlim=(0, 1))
    axes.legend(fontsize=7, loc="upper left")
    counts.bar([bin.low for bin in bins], [bin.tokens for bin in bins], width=bins[0].high - bins[0].low, align="edge",
               color="0.75", edgecolor="0.4", linewidth=0.5)  # fmt: skip
    counts.set(xlabel="uncertainty u", ylabel="tokens")


def _importance(figure: Any, findings: Findings, profile: Profile) -> None:
    """Upload rate by layer for each k at γ = 1, and by k at the chosen layer for each γ, the paper's beside it."""
    by_layer, by_k = figure.subplots(1, 2, sharey=True)
    at_one = [c for c in findings.curves if c.readout == Readout.HEADS.value and c.gamma == 1.0]
    layers = [curve.layer for curve in at_one]
    for i, k in enumerate(PAPER_UPLOAD_RATES):
        rates = [dict(curve.upload_rates)[k] for curve in at_one]
        by_layer.errorbar(layers, [100 * r.mean for r in rates], yerr=100 * np.array(_bars(rates)),
                          marker=_MARKERS[i], markersize=3, linewidth=0.8, color=str(0.15 * i), label=f"k = {k}")  # fmt: skip
    by_layer.axvline(profile.layer, color="0.6", linestyle=":", label="chosen layer")
    by_layer.set(xlabel="layer, from 0", ylabel="upload rate of importance alone, %", ylim=(0, 100))
    by_layer.set_title("heads, γ = 1", loc="left")
    by_layer.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False)
    for i, curve in enumerate(findings.curves_of(profile.layer)):
        ks = [k for k, _ in curve.upload_rates]
        rates = [rate for _, rate in curve.upload_rates]
        by_k.errorbar(ks, [100 * r.mean for r in rates], yerr=100 * np.array(_bars(rates)), marker=_MARKERS[i],
                      linestyle=_DASHES[i % 3], markersize=4, linewidth=1, color=str(0.2 * i), capsize=2,
                      label=f"γ = {curve.gamma:g}")  # fmt: skip
    paper = PAPER_UPLOAD_RATES
    by_k.plot(list(paper), [100 * rate for rate in paper.values()], "x", color="black", label="paper, γ = 1")
    by_k.set(xlabel="k", title=f"heads, layer {profile.layer}", xticks=list(paper))
    by_k.legend(fontsize=7)


def _collapse(figure: Any, trace: Trace, profile: Profile) -> None:
    """Entropy and largest weight of the head-averaged attention row against the decoding step, by layer."""
    left, right = figure.subplots(1, 2)
    steps = int(trace.step.max()) + 1
    filled = np.bincount(trace.step, minlength=steps)
    shown = sorted({0, trace.n_layer // 3, 2 * trace.n_layer // 3, profile.layer, trace.n_layer - 1})
    for axes, values, label in (
        (left, trace.attention_entropy_nat, "entropy of the attention row, nat"),
        (right, trace.attention_max, "largest weight of the row"),
    ):
        for i, layer in enumerate(shown):
            means = np.bincount(trace.step, weights=values[:, layer], minlength=steps) / np.maximum(filled, 1)
            axes.plot(np.flatnonzero(filled), means[filled > 0], color=str(0.14 * i), linestyle=_DASHES[i % 3],
                      marker=_MARKERS[i], markevery=max(1, steps // 8), markersize=4, linewidth=1,
                      label=f"layer {layer}")  # fmt: skip
        axes.set(xlabel="decoding step", ylabel=label, ylim=(0, None))
    left.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(shown), frameon=False)


def _bars(values: list[Interval]) -> list[list[float]]:
    """Return the two lengths of error bars; the bootstrap can put a bound past the mean of a tiny bin."""
    return [[max(0.0, v.mean - v.low) for v in values], [max(0.0, v.high - v.mean) for v in values]]
