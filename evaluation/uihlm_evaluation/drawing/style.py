"""How every figure looks and is saved.

Series differ by marker and line style as well as by shade, so that a grey print tells them apart. SVG text stays text,
and no date or random id goes into a file: the same run gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_proto.errors import InvalidRequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG_DPI = 160
REFERENCE = "0.35"
FAINT = "0.72"
_NOTE_CHARACTER_IN = 0.062


class FigureDataError(InvalidRequestError):
    """Data that a figure needs and was not given."""


@dataclass(frozen=True, slots=True)
class Style:
    """How one series is drawn: a colour of its own shade, a marker and a line style."""

    color: str
    marker: str
    line: Any


# Neighbours differ in lightness, and no two in all of marker and line.
_STYLES = (
    Style("#111111", "o", "-"),
    Style("#0072b2", "s", "--"),
    Style("#e69f00", "^", (0, (5, 1.5, 1, 1.5))),
    Style("#7a7a7a", "D", ":"),
    Style("#8c2d04", "v", (0, (3, 1, 1, 1, 1, 1))),
    Style("#41ab5d", "P", (0, (8, 2))),
    Style("#54278f", "X", (0, (1, 1))),
    Style("#fb9a99", "<", (0, (6, 2, 2, 2))),
)


def style(index: int) -> Style:
    """Return the style of the series with this number; after eight they repeat."""
    return _STYLES[index % len(_STYLES)]


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Set the fonts and lines of a figure that is made inside; other users of matplotlib see none of it."""
    import matplotlib

    settings = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.labelsize": 9,
        "axes.titlesize": 9.5,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "0.9",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.3,
        "lines.markersize": 5,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure of this size, inches, that no window and no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def errors(intervals: list[Interval], scale: float = 1.0) -> list[list[float]]:
    """Return what `errorbar` takes: lengths below and above the means, `[2][n]`; a bound past its mean has length 0."""
    below = [scale * max(0.0, interval.mean - interval.low) for interval in intervals]
    above = [scale * max(0.0, interval.high - interval.mean) for interval in intervals]
    return [below, above]


def footnote(figure: Figure, text: str) -> None:
    """Write small lines under everything else of the figure, as long as it is wide; the layout makes room for them."""
    lines = textwrap.fill(text, int(figure.get_figwidth() / _NOTE_CHARACTER_IN), break_on_hyphens=False)
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=7, color=REFERENCE)


def svg(figure: Figure, name: str) -> str:
    """Return the figure as one `<svg>` element to stand in a page; ids that it refers to are its name's own."""
    text = saved(figure, name, "svg").decode()
    return text[text.index("<svg") :]


def save(figure: Figure, name: str, folder: Path) -> tuple[Path, Path]:
    """Write the figure as `<name>.svg` and `<name>.png` and return both paths."""
    paths = folder / f"{name}.svg", folder / f"{name}.png"
    for path in paths:
        path.write_bytes(saved(figure, name, path.suffix[1:]))
    return paths


def saved(figure: Figure, name: str, file_format: str) -> bytes:
    """Return the bytes of the figure's file in a format, `svg` or `png`."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        metadata = {"Date": None} if file_format == "svg" else None
        figure.savefig(out, format=file_format, dpi=PNG_DPI, metadata=metadata)
    return out.getvalue()
