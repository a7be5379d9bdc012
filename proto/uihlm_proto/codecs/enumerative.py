"""Subsets as numbers: the combinatorial number system, in exact integers.

    rank of {c_1 < c_2 < … < c_K}  =  Σ_i C(c_i, i)        0 ≤ rank < C(n, K) for subsets of 0 … n-1

This is the place of the subset in colexicographic order, so n need not be known to rank or unrank. Counts n_1 … n_K that
sum to ℓ are a subset too: the K-1 bars between them among ℓ+K-1 places (stars and bars).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def rank_subset(members: Sequence[int]) -> int:
    """Return the rank of a subset, given in ascending order."""
    return sum(math.comb(member, i) for i, member in enumerate(members, 1))


def unrank_subset(rank: int, size: int) -> list[int]:
    """Return the subset of `size` members with that rank, ascending; rank ≥ 0."""
    members = []
    for i in range(size, 0, -1):
        member, below = _largest(rank, i)
        members.append(member)
        rank -= below
    return members[::-1]


def bars(counts: Sequence[int]) -> list[int]:
    """Return the places of the K-1 bars between K counts."""
    places, place = [], 0
    for count in counts[:-1]:
        place += count
        places.append(place)
        place += 1
    return places


def between(places: Sequence[int], total: int) -> list[int]:
    """Return the K counts of sum `total` that K-1 bars leave between them."""
    ends = [-1, *places, total + len(places)]
    return [right - left - 1 for left, right in itertools.pairwise(ends)]


def _largest(rank: int, i: int) -> tuple[int, int]:
    """Return the largest c with C(c, i) ≤ rank, and C(c, i)."""
    if rank == 0:
        return i - 1, 0
    if i == 1:
        return rank, rank
    # The product c(c-1)…(c-i+1) = i!·C(c, i) is about m^i at the middle m of its factors; the second term corrects for
    # their spread. A guess, made exact below: floating point decides how long that takes, not what comes out.
    middle = math.exp((math.log(rank) + math.lgamma(i + 1)) / i)
    middle *= math.exp((i * i - 1) / (24.0 * middle * middle))
    c = max(i, round(middle + (i - 1) / 2))
    value = math.comb(c, i)
    while value > rank:
        value = value * (c - i) // c
        c -= 1
    while (above := value * (c + 1) // (c + 1 - i)) <= rank:
        value = above
        c += 1
    return c, value
