"""Where the label of each point goes so that no two touch: of rings of places around the point, the one that covers least."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_GAPS_PT = (5.0, 8.0, 14.0, 22.0, 32.0, 44.0)
_DIRECTIONS = 16
_POINT_PT = 3.5
_LEADER_FROM_PT = 10.0
_FONT_PT = 7.5
_TEXT = "0.15"
# What a place costs: a square pixel of a point, a label or the frame; one of a line; a point of distance; a point by which
# another marker is nearer than the label's own.
_COVERED, _CROSSED, _FAR, _ASTRAY = 20.0, 1.0, 0.5, 40.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PointLabel:
    """A text for the point x, y, both in data units; the colour is that of the line to it."""

    x: float
    y: float
    text: str
    color: str


def place_labels(
    axes: Axes,
    labels: Sequence[PointLabel],
    points: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
) -> list[Annotation]:
    """Write labels beside their points, clear of each other, of every point and of the frame, and if it can be of lines.

    Where no place is free, the one that covers least is taken. A label that stands off has a thin line to its point. The
    limits and the layout of the axes must be final: places are counted in pixels.

    Args:
        axes: where.
        labels: in the order in which they choose their places.
        points: what must stay visible, in data units.
        lines: polylines that are better not crossed, in data units.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    # Laid out for good: labels must not push the axes they were placed on, and saving need not lay out once more.
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()
    pixel = figure.dpi / 72.0
    extent = axes.get_window_extent(renderer)
    frame = np.array([[extent.x0, extent.y0, extent.x1, extent.y1]])
    at = axes.transData.transform(np.array(points, dtype=np.float64).reshape(-1, 2))
    taken = np.hstack([at - _POINT_PT * pixel, at + _POINT_PT * pixel])
    crossed = _along([axes.transData.transform(np.array(line, dtype=np.float64)) for line in lines], 2.0 * pixel)
    written = []
    for label in labels:
        probe = axes.text(label.x, label.y, label.text, fontsize=_FONT_PT)
        size = probe.get_window_extent(renderer)
        probe.remove()
        own = axes.transData.transform((label.x, label.y))
        width, height = size.width + 2.0 * pixel, size.height
        offsets, gaps = _places(width, height, pixel)
        middles = own + offsets
        half = np.array([width, height]) / 2
        boxes = np.hstack([middles - half, middles + half])
        covered = _overlap(boxes, taken).sum(axis=1) + width * height - _overlap(boxes, frame)[:, 0]
        astray = np.maximum(0.0, _distance(boxes, own[None])[:, 0] + pixel - _nearest_other(boxes, at, own)) / pixel
        cost = _COVERED * covered + _CROSSED * _overlap(boxes, crossed).sum(axis=1) + _FAR * gaps + _ASTRAY * astray
        best = int(np.argmin(cost))
        leader = {"arrowstyle": "-", "color": label.color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        written.append(
            axes.annotate(
                label.text,
                (label.x, label.y),
                xytext=tuple(offsets[best] / pixel),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=_FONT_PT,
                color=_TEXT,
                annotation_clip=False,
                arrowprops=leader if gaps[best] > _LEADER_FROM_PT else None,
            )
        )
        taken = np.vstack([taken, boxes[best]])
    return written


def _places(width: float, height: float, pixel: float) -> tuple[Floats, Floats]:
    """Return offsets of a text's middle from its point, pixels `[places, 2]`, and its gap to the point, points `[places]`."""
    places = []
    for gap, turn in itertools.product(_GAPS_PT, range(_DIRECTIONS)):
        angle = 2.0 * math.pi * turn / _DIRECTIONS
        # The ring is an ellipse around the point that leaves the text's edge, not its middle, so far off.
        places.append(
            (
                math.cos(angle) * (gap * pixel + width / 2),
                math.sin(angle) * (gap * pixel + height / 2),
                gap,
            )
        )
    table = np.array(places)
    return table[:, :2], table[:, 2]


def _overlap(boxes: Floats, others: Floats) -> Floats:
    """Return the common areas `[n, m]` of boxes left, bottom, right, top `[n, 4]` and `[m, 4]`."""
    sides = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    areas: Floats = np.maximum(sides, 0.0).prod(axis=2)
    return areas


def _distance(boxes: Floats, points: Floats) -> Floats:
    """Return the distances `[n, m]` of points `[m, 2]` from boxes `[n, 4]`, 0 inside."""
    outside = np.maximum(boxes[:, None, :2] - points[None], points[None] - boxes[:, None, 2:])
    distances: Floats = np.linalg.norm(np.maximum(outside, 0.0), axis=2)
    return distances


def _nearest_other(boxes: Floats, points: Floats, own: Floats) -> Floats:
    others = points[np.abs(points - own).max(axis=1) > 0.5] if len(points) else points
    return _distance(boxes, others).min(axis=1) if len(others) else np.full(len(boxes), np.inf)


def _along(lines: Sequence[Floats], width: float) -> Floats:
    """Return boxes of this width, pixels, strung along polylines, `[m, 4]`."""
    middles = [np.zeros((0, 2))]
    for line in lines:
        for start, end in itertools.pairwise(line):
            steps = max(1, math.ceil(float(np.hypot(*(end - start))) / width))
            middles.append(start + (end - start) * np.linspace(0.0, 1.0, steps + 1)[:, None])
    at = np.vstack(middles)
    return np.hstack([at - width / 2, at + width / 2])
