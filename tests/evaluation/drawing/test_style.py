"""What all figures share: notes that stay inside, bars that never have a negative length."""

import pytest

from uihlm_evaluation.drawing.style import errors, footnote, new_figure
from uihlm_evaluation.quality.bootstrap import Interval


@pytest.mark.parametrize("text", ["word " * 60, "one_long_hash" * 12])
def test_a_note_stays_inside_the_figure(text):
    figure = new_figure(5.0, 3.0)
    figure.subplots()
    footnote(figure, text)
    figure.canvas.draw()
    extent = figure._supxlabel.get_window_extent(figure.canvas.get_renderer())
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1
    assert extent.y0 >= 0 and extent.y1 < figure.axes[0].get_tightbbox().y0 + 1


def test_bars_are_the_distances_to_the_bounds():
    assert errors([Interval(2.0, 1.5, 3.0)], 100.0) == [[50.0], [100.0]]
    assert errors([Interval(2.0, 2.1, 3.0)]) == [[0.0], [1.0]]
