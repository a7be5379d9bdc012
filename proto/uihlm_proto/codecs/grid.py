"""The lattice of distributions over K of V tokens in steps of 1/ℓ, and the number of each of its points.

    points = C(V, K) · C(ℓ+K-1, K-1)          supports × counts that sum to ℓ
    bits   = ⌈log2(points · K)⌉               the draft is one of the K tokens of the support
    number = (rank of support · C(ℓ+K-1, K-1) + rank of counts) · K + index of d in the support

One number in mixed radix wastes less than a bit, and every value below points · K is one point and one draft.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_proto.codecs.enumerative import bars, between, rank_subset, unrank_subset


@dataclass(frozen=True, slots=True)
class Point:
    """One distribution of a grid and the draft drawn from it.

    Attributes:
        support: token ids, ascending, `[K]`.
        counts: of each, in steps of 1/ℓ, `[K]`.
        index: of the draft in the support.
    """

    support: Sequence[int]
    counts: Sequence[int]
    index: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The points with K = `k` tokens, 1 ≤ k ≤ V, and steps of 1/ℓ = 1/`steps`.

    Attributes:
        vocabulary_size: V.
        k: K.
        steps: ℓ.
        arrangements: C(ℓ+K-1, K-1).
        size: points · K: numbers in use.
    """

    vocabulary_size: int
    k: int
    steps: int
    arrangements: int
    size: int

    @classmethod
    def of(cls, vocabulary_size: int, k: int, steps: int) -> Grid:
        """Return the grid; where V < K the support is the whole vocabulary."""
        k = min(k, vocabulary_size)
        arrangements = math.comb(steps + k - 1, k - 1)
        return cls(vocabulary_size, k, steps, arrangements, math.comb(vocabulary_size, k) * arrangements * k)

    def number(self, point: Point) -> int:
        """Return the number of a point and its draft, in 0 … size-1."""
        arrangement = rank_subset(bars(point.counts))
        return (rank_subset(point.support) * self.arrangements + arrangement) * self.k + point.index

    def point(self, number: int) -> Point:
        """Return the point and draft of a number in 0 … size-1."""
        number, index = divmod(number, self.k)
        support, arrangement = divmod(number, self.arrangements)
        counts = between(unrank_subset(arrangement, self.k - 1), self.steps)
        return Point(unrank_subset(support, self.k), counts, index)
