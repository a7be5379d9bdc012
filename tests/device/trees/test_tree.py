"""The best tree of N: against every tree of N there is, and against what the race itself says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from uihlm_device.trees.tree import ROOT, Candidates, Place, Tree, best_of
from uihlm_proto.randomness import Role, exponentials, session_key, words
from uihlm_proto.sampling import race

USUAL = (0.6, 0.2, 0.1)
RANKS = len(USUAL)


def grown(size: int, chances_of, deepest: int = 99, stop_ids: frozenset[int] = frozenset()) -> Tree:
    """A tree whose nodes' candidates are a function of the path to them; tokens are ranks."""
    tree = Tree(size, deepest, USUAL, stop_ids)
    tokens = tuple(range(RANKS))
    paths: list[tuple[int, ...]] = []
    tree.plant(Candidates(tokens, (0.1,) * RANKS, chances_of(()), ()))
    while batch := tree.next_batch():
        for place in batch:
            above = () if place.below == ROOT else paths[place.below]
            paths.append((*above, place.rank))
            tree.add(place, Candidates(tokens, (0.1,) * RANKS, chances_of(paths[-1]), ()))
    return tree


def random_chances(seed: int):
    """Other chances below every path."""

    def chances_of(path: tuple[int, ...]) -> tuple[float, ...]:
        rng = np.random.default_rng([seed, *(rank + 1 for rank in path)])
        c = np.sort(rng.dirichlet((2.0, 1.0, 0.5, 0.5)))[::-1]
        return tuple(float(value) for value in c[:RANKS])

    return chances_of


def every_path(longest: int):
    for length in range(1, longest + 1):
        yield from itertools.product(range(RANKS), repeat=length)


def chance(path: tuple[int, ...], chances_of) -> float:
    return float(np.prod([chances_of(path[:depth])[rank] for depth, rank in enumerate(path)]))


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_with_the_usual_chances_no_tree_of_as_many_nodes_expects_more(size: int) -> None:
    tree = grown(size, lambda path: USUAL)
    places, parents, expected = tree.nodes()
    assert len(places) == len(parents) == size
    best = sorted((chance(path, lambda path: USUAL) for path in every_path(6)), reverse=True)
    assert expected == pytest.approx(1.0 + sum(best[:size]))


@pytest.mark.parametrize("seed", range(8))
def test_tree_is_the_likeliest_of_what_has_run(seed: int) -> None:
    """Chances differ below every node: the tree holds the likeliest candidates of all nodes that were looked at."""
    chances_of = random_chances(seed)
    tree = grown(10, chances_of)
    places, parents, expected = tree.nodes()
    paths: list[tuple[int, ...]] = []
    for place in tree.run:
        paths.append((*(() if place.below == ROOT else paths[place.below]), place.rank))
    known = [(*above, rank) for above in ((), *paths) for rank in range(RANKS)]
    best = sorted((chance(path, chances_of) for path in known), reverse=True)
    assert expected == pytest.approx(1.0 + sum(best[:10]))
    assert len(tree.run) <= 10
    for place, parent in zip(places, parents, strict=True):
        above = None if parent == ROOT else places[parent]
        assert above == (None if place.below == ROOT else tree.run[place.below])


def test_parents_come_before_their_children_and_siblings_differ() -> None:
    for seed in range(6):
        places, parents, _ = grown(20, random_chances(seed)).nodes()
        assert all(parent < node for node, parent in enumerate(parents))
        assert len(set(places)) == len(places)


def test_leaves_need_no_forward() -> None:
    tree = grown(8, lambda path: USUAL)
    places, _, _ = tree.nodes()
    inner = {place.below for place in places} - {ROOT}
    assert len(tree.run) == len(inner) < 8


def test_nothing_is_below_a_stop_token_or_the_deepest_node() -> None:
    places, _, _ = grown(9, lambda path: USUAL, deepest=2).nodes()
    tree = grown(9, lambda path: USUAL, deepest=2)
    assert {tree.depth(place) for place in places} == {1, 2}
    stopping = grown(9, lambda path: USUAL, stop_ids=frozenset({0}))
    assert all(place.rank != 0 for place in stopping.run)
    assert any(place.rank == 0 for place in stopping.nodes()[0])


def test_fewer_candidates_than_nodes_give_a_smaller_tree() -> None:
    tree = Tree(5, 1, USUAL, frozenset())
    tree.plant(Candidates((7, 8), (0.5, 0.5), (0.6, 0.2), ()))
    assert tree.next_batch() == []
    assert tree.nodes() == ([Place(ROOT, 0), Place(ROOT, 1)], [ROOT, ROOT], pytest.approx(1.8))


def test_best_candidate_is_the_draft_of_a_chain() -> None:
    rng = np.random.default_rng(0)
    for position in range(60):
        x = rng.dirichlet(np.full(300, 0.05))
        key = session_key(0, position)
        noise = exponentials(key, Role.GUMBEL, position, x.size)
        best, scores = best_of(x, noise, 6)
        assert best[0] == race(x, words(key, Role.GUMBEL, position, x.size))
        assert list(best) == sorted(np.flatnonzero(x), key=lambda i: -x[i] / noise[i])[:6]
        assert np.allclose(np.exp(scores), (x / noise)[best])


def test_tokens_that_cannot_be_drawn_are_no_candidates_and_ties_fall_to_the_lower_id() -> None:
    x = np.array([0.0, 0.25, 0.5, 0.25, 0.0])
    best, _ = best_of(x, np.ones(5), 4)
    assert list(best) == [2, 1, 3]
    assert list(best_of(x, np.ones(5), 2)[0]) == [2, 1]
