"""Every number of a grid is one point and one draft, and their number is what combinatorics says."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uihlm_proto.codecs.grid import Grid, Point


@pytest.mark.parametrize(("vocabulary_size", "k", "steps"), [(5, 2, 3), (4, 3, 2), (3, 1, 4), (3, 8, 2)])
def test_numbers_and_points_are_one_to_one(vocabulary_size, k, steps):
    grid = Grid.of(vocabulary_size, k, steps)
    points = [grid.point(number) for number in range(grid.size)]
    k = min(k, vocabulary_size)
    everything = {
        (support, counts, index)
        for support in itertools.combinations(range(vocabulary_size), k)
        for counts in itertools.product(range(steps + 1), repeat=k)
        if sum(counts) == steps
        for index in range(k)
    }
    assert {(tuple(p.support), tuple(p.counts), p.index) for p in points} == everything
    assert len(points) == len(everything)
    assert [grid.number(point) for point in points] == list(range(grid.size))


@pytest.mark.parametrize(
    ("k", "steps", "bits"),
    [(16, 128, 275), (64, 1024, 1050), (8, 64, 143), (1, 1, 16)],
)
def test_bits_at_the_bundled_vocabulary(k, steps, bits):
    """DESIGN 3: log2 C(V, K) + log2 C(ℓ+K-1, K-1) + log2 K, rounded up once."""
    v = 49_152
    each = [math.log2(n) for n in (math.comb(v, k), math.comb(steps + k - 1, k - 1), k)]
    number = math.ceil(sum(each))
    assert (Grid.of(v, k, steps).size - 1).bit_length() == number
    assert bits <= number <= bits + 1


@settings(deadline=None, max_examples=150)
@given(st.integers(2, 128_256), st.integers(1, 128), st.integers(1, 4096), st.data())
def test_any_point_of_any_grid_comes_back(vocabulary_size, k, steps, data):
    grid = Grid.of(vocabulary_size, k, steps)
    ids = st.integers(0, vocabulary_size - 1)
    support = sorted(data.draw(st.sets(ids, min_size=grid.k, max_size=grid.k)) if grid.k < 9 else range(grid.k))
    cuts = sorted(data.draw(st.lists(st.integers(0, steps), min_size=grid.k - 1, max_size=grid.k - 1)))
    counts = [b - a for a, b in itertools.pairwise([0, *cuts, steps])]
    point = Point(support, counts, data.draw(st.integers(0, grid.k - 1)))
    number = grid.number(point)
    assert 0 <= number < grid.size
    assert grid.point(number) == point
