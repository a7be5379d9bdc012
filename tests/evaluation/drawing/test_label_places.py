"""Labels keep clear of points, of each other and of the frame, and stay nearest to their own point."""

import itertools
import math

from matplotlib.text import Text

from uihlm_evaluation.drawing.label_places import PointLabel, place_labels
from uihlm_evaluation.drawing.style import new_figure


def placed(points, lines=()):
    figure = new_figure(4.0, 3.0)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot(*zip(*points, strict=True), "o")
    texts = place_labels(
        axes, [PointLabel(x, y, f"label {n}", "0.2") for n, (x, y) in enumerate(points)], points, lines
    )
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    return axes, [Text.get_window_extent(text, renderer) for text in texts]


def test_labels_in_a_crowd_touch_neither_each_other_nor_a_point():
    points = [(0.5 + 0.03 * i, 0.5 + 0.05 * j) for i in range(3) for j in range(3)]
    axes, boxes = placed(points)
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert not [1 for box in boxes for p in points if box.contains(*axes.transData.transform(p))]


def test_labels_in_the_corners_stay_inside_the_frame():
    axes, boxes = placed([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    frame = axes.get_window_extent()
    for box in boxes:
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def test_a_label_is_nearest_to_its_own_point():
    points = [(0.5, 0.5), (0.6, 0.55), (0.4, 0.525)]
    axes, boxes = placed(points)
    at = axes.transData.transform(points)
    for own, box in enumerate(boxes):
        gaps = [math.hypot(max(box.x0 - x, x - box.x1, 0), max(box.y0 - y, y - box.y1, 0)) for x, y in at]
        assert gaps[own] == min(gaps) < sorted(gaps)[1]


def test_a_label_crosses_no_line_where_there_is_room():
    points = [(0.5, 0.5)]
    axes, (box,) = placed(points, [[(0.0, 0.5), (1.0, 0.5)]])
    (_, y) = axes.transData.transform(points[0])
    assert box.y0 > y or box.y1 < y
