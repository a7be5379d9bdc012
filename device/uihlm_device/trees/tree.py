"""Which drafts make the best tree of N: the N nodes that the LLM's draws are likeliest to come by.

    s_i       = x_i / E_i                     the race of codec `coupled`, of which log s = log x + G
    m-th best = the candidate of rank m below a node; rank 1 is the draft that a chain would hold
    P(node)   = P(parent) · c_m               c_m: chance that the LLM's draw is the candidate of rank m
    E(tree)   = 1 + Σ P(node)                 tokens a round: the path that stands, and the draw that leaves it

No node is likelier than its parent, so taking the likeliest next node N times gives the tree of the largest E. A node's
candidates are known once the drafter has run it. What has not run is given the usual chances; the nodes from which such a
look ahead takes children are run next, all in one batch, until the tree holds no guess.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from uihlm_proto.limits import MAX_DRAFTS

FloatArray = npt.NDArray[np.float64]

ROOT = -1


@dataclass(frozen=True, slots=True)
class Place:
    """A candidate: which node it is below, and its rank there, from 0."""

    below: int
    rank: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may follow a node.

    Attributes:
        tokens: best first.
        x: the drafter's probability of each.
        chances: that the LLM draws it (uihlm_device/trees/chances.py).
        scores: log s of each.
    """

    tokens: tuple[int, ...]
    x: tuple[float, ...]
    chances: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(slots=True)
class Tree:
    """A tree in the making: what has run, and what follows from it.

    Attributes:
        size: nodes that it is to have, N.
        deepest: most nodes of a path, at least 1.
        usual: c_m where nothing better is known.
        stop_ids: tokens that nothing follows.
        run: where each node that has run stands, in the order they ran.
        candidates: below the root, then below each of `run`.
    """

    size: int
    deepest: int
    usual: Sequence[float]
    stop_ids: frozenset[int]
    run: list[Place] = field(default_factory=list)
    candidates: list[Candidates] = field(default_factory=list)
    _chance: list[float] = field(default_factory=list)
    _depth: list[int] = field(default_factory=list)
    _ran: dict[Place, int] = field(default_factory=dict)

    def plant(self, candidates: Candidates) -> None:
        """Say what may follow the last id of the sequence."""
        self.candidates.append(candidates)
        self._chance.append(1.0)
        self._depth.append(0)

    def add(self, place: Place, candidates: Candidates) -> None:
        """Say what may follow a candidate, which has been run."""
        self._ran[place] = len(self.run)
        self.run.append(place)
        self.candidates.append(candidates)
        self._chance.append(self._chance[place.below + 1] * self._chance_of(place))
        self._depth.append(self._depth[place.below + 1] + 1)

    def token(self, place: Place) -> int:
        """Return a candidate's token."""
        return self.candidates[place.below + 1].tokens[place.rank]

    def depth(self, place: Place) -> int:
        """Return how many nodes lead to a candidate, itself included."""
        return self._depth[place.below + 1] + 1

    def ran(self, place: Place) -> int | None:
        """Return the number of a candidate among those that have run, if it has."""
        return self._ran.get(place)

    def next_batch(self, further: int = 0) -> list[Place]:
        """Return what must run before a tree of `further` more nodes is known, likeliest first; nothing if it is known."""
        return self._likeliest(self.size + further, MAX_DRAFTS - len(self.run))[1]

    def nodes(self) -> tuple[list[Place], list[int], float]:
        """Return the tree as it is known: its nodes, the index of each one's parent (ROOT of the roots), and E."""
        places = self.likeliest(self.size)
        index = {place: number for number, place in enumerate(places)}
        parents = [ROOT if place.below == ROOT else index[self.run[place.below]] for place in places]
        return places, parents, 1.0 + sum(self._chance[p.below + 1] * self._chance_of(p) for p in places)

    def likeliest(self, size: int) -> list[Place]:
        """Return the `size` likeliest nodes of those known, parents first."""
        return self._likeliest(size, 0)[0]

    def _chance_of(self, place: Place) -> float:
        return self.candidates[place.below + 1].chances[place.rank]

    def below(self, end: Place | None, token: int) -> tuple[Tree, list[int]] | None:
        """Return the tree that hangs from a token after `end` (None: the root), and the numbers its nodes had here.

        None if that token has not run. The first number is the token's own; the others are the new tree's `run`.
        """
        above = ROOT if end is None else self._ran.get(end, None)
        if above is None or token not in self.candidates[above + 1].tokens:
            return None
        root = self._ran.get(Place(above, self.candidates[above + 1].tokens.index(token)))
        if root is None:
            return None
        rest = Tree(self.size, self.deepest - self._depth[root + 1], self.usual, self.stop_ids)
        rest.plant(self.candidates[root + 1])
        numbers = {root: ROOT}
        for number, place in enumerate(self.run):
            if place.below in numbers:
                rest.add(Place(numbers[place.below], place.rank), self.candidates[number + 1])
                numbers[number] = len(rest.run) - 1
        return rest, list(numbers)

    def _likeliest(self, size: int, guesses: int) -> tuple[list[Place], list[Place]]:
        """Take the `size` likeliest nodes, looking ahead from at most `guesses`; return those and what it looked ahead from."""
        taken: list[Place] = []
        ahead: dict[Place, None] = {}
        # (−P, order, place, P of the parent, rank and depth of a guess below the place; rank −1: the place itself).
        heap: list[tuple[float, int, Place, float, int, int]] = []
        order = 0

        def push(place: Place, above: float, rank: int, depth: int) -> None:
            nonlocal order
            if rank < 0:
                if place.rank < len(self.candidates[place.below + 1].tokens):
                    heapq.heappush(heap, (-above * self._chance_of(place), order, place, above, rank, depth))
            elif rank < len(self.usual):
                heapq.heappush(heap, (-above * self.usual[rank], order, place, above, rank, depth))
            order += 1

        push(Place(ROOT, 0), 1.0, -1, 1)
        for _ in range(size):
            while heap:
                minus, _order, place, above, rank, depth = heapq.heappop(heap)
                if rank < 0 or place in ahead or len(ahead) < guesses:
                    break
            else:
                break
            if rank < 0:
                taken.append(place)
                push(Place(place.below, place.rank + 1), above, -1, depth)
            else:
                ahead[place] = None
                push(place, above, rank + 1, depth)
            if depth == self.deepest:
                continue
            number = self._ran.get(place) if rank < 0 else None
            if number is not None:
                push(Place(number, 0), self._chance[number + 1], -1, depth + 1)
            elif rank >= 0 or self.token(place) not in self.stop_ids:
                push(place, -minus, 0, depth + 1)
        return taken, list(ahead)


def best_of(x: FloatArray, noise: FloatArray, count: int) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return the `count` best candidates of the race, fewer if fewer can be drawn, best first, and log s of each.

    Args:
        x: the drafter's distribution, `[V]`.
        noise: E of every token, `[V]`.
        count: at least 1.
    """
    score = x / noise
    # Ties fall to the lower id, as in `race`; among the best that takes a stable sort of ids in order.
    cut = np.partition(score, score.size - count)[score.size - count] if count < score.size else 0.0
    able = np.flatnonzero((score >= cut) & (score > 0.0))
    best = able[np.argsort(-score[able], kind="stable")][:count]
    return best, np.log(score[best])
