"""The pictures of the uplink: tokens a second against the round trip, and what a token costs on the paper's channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from uihlm_evaluation.drawing.style import new_figure, save, style, styled

if TYPE_CHECKING:
    from benchmarks.uplink.figures import Figures

_TRIPS_MS = {"RTT 0": 0, "RTT 10 ms": 10, "RTT 50 ms": 50, "RTT 150 ms": 150}
_CURVES = {
    "llm": "LLM alone",
    "coupled": "one draft, waiting",
    "L=4": "blocks of 4",
    "in flight 16": "one draft, in flight",
    "in flight 4, runs on": "the same, the LLM runs on",
    "tree 16": "tree of 16",
    "tree 64": "tree of 64",
    "tree 4 in flight 8": "trees of 4, 8 in flight",
}
_BARS = ("dense32", "dense16", "lattice 64", "lattice 16", "coupled", "tree 16", "llm")


def draw(found: Mapping[str, Mapping[str, Figures]], folder: Path) -> None:
    """Write uplink.svg and uplink.png."""
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        figure = new_figure(9.0, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for index, (name, label) in enumerate(_CURVES.items()):
            look = style(index)
            left.plot(
                list(_TRIPS_MS.values()),
                [found[name][link].tok_s for link in _TRIPS_MS],
                label=label,
                color=look.color,
                marker=look.marker,
                linestyle=look.line,
            )
        left.set_xlabel("round trip (ms)")
        left.set_ylabel("tokens a second")
        left.set_ylim(0.0, 1.4 * max(figures["RTT 0"].tok_s for figures in found.values()))
        left.legend(loc="upper right", ncols=2)
        rates = [found[name]["paper"].tok_s for name in _BARS]
        places = range(len(_BARS))
        right.barh(list(places), rates, color="0.6")
        right.set_xscale("log")
        right.set_yticks(list(places), [f"{name}, {found[name]['paper'].payload_bit:,.0f} bit" for name in _BARS])
        right.invert_yaxis()
        right.set_xlabel("tokens a second on the paper's link")
        save(figure, "uplink", folder)
