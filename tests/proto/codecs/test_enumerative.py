"""Ranks of subsets are dense, ordered and turned back, for every subset there is and for large ones."""

import itertools
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uihlm_proto.codecs.enumerative import bars, between, rank_subset, unrank_subset


@pytest.mark.parametrize(("n", "k"), [(1, 1), (6, 1), (7, 3), (9, 5), (8, 8), (5, 0)])
def test_ranks_number_all_subsets_in_colexicographic_order(n, k):
    subsets = sorted(itertools.combinations(range(n), k), key=lambda members: members[::-1])
    assert len(subsets) == math.comb(n, k)
    for rank, members in enumerate(subsets):
        assert rank_subset(members) == rank
        assert unrank_subset(rank, k) == list(members)


@settings(deadline=None, max_examples=200)
@given(st.sets(st.integers(0, 128_255), min_size=1, max_size=128))
def test_any_subset_of_a_large_vocabulary_comes_back(members):
    ordered = sorted(members)
    rank = rank_subset(ordered)
    assert math.comb(ordered[-1], len(ordered)) <= rank < math.comb(ordered[-1] + 1, len(ordered))
    assert unrank_subset(rank, len(ordered)) == ordered


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 128), st.integers(1, 128_256), st.data())
def test_any_rank_comes_back(k, n, data):
    rank = data.draw(st.integers(0, max(0, math.comb(max(n, k), k) - 1)))
    members = unrank_subset(rank, k)
    assert members == sorted(set(members)) and len(members) == k
    assert members[0] >= 0 and members[-1] < max(n, k)
    assert rank_subset(members) == rank


@pytest.mark.parametrize("k", [2, 3, 16, 64, 127])
@pytest.mark.parametrize("top", [130, 1_000, 49_152, 128_256])
def test_ranks_beside_a_binomial_are_not_off_by_one(k, top):
    for rank, largest in ((math.comb(top, k) - 1, top - 1), (math.comb(top, k), top), (math.comb(top, k) + 1, top)):
        assert unrank_subset(rank, k)[-1] == largest


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40))
def test_counts_are_what_lies_between_their_bars(counts):
    places = bars(counts)
    assert len(places) == len(counts) - 1
    assert places == sorted(set(places)) and all(0 <= place < sum(counts) + len(places) for place in places)
    assert between(places, sum(counts)) == counts


@pytest.mark.parametrize("shape", ["lowest", "highest", "random"])
def test_no_rank_is_slow_to_read(shape):
    """A peer may send any number: the guess that unranking starts from must be near for all of them."""
    size = math.comb(128_256, 128)
    rank = {"lowest": 1, "highest": size - 1, "random": size * 271_828 // 314_159}[shape]
    started_s = time.perf_counter()
    unrank_subset(rank, 128)
    assert time.perf_counter() - started_s < 0.1
