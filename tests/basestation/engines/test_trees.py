"""The shape of a tree: depths, branches and what is refused; and the walk of the LLM's own draws through it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from known_rows import Known
from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.trees import (
    branches,
    check_parents,
    check_path,
    check_siblings,
    children,
    depths,
    trunk_length,
)
from uihlm_basestation.verification import draw_alone, verify_tree
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_proto.randomness import Draws, session_key

#   0 ─ 1 ─ 2 ─ 4
#         └ 3   └ 6
#   5
PARENTS = [-1, 0, 1, 1, 2, -1, 4]
IDS = [7, 3, 5, 9, 5, 2, 7]

trees = st.integers(1, 12).flatmap(lambda n: st.tuples(*(st.integers(-1, i - 1) for i in range(n))))


def test_a_tree_has_depths_branches_a_trunk_and_children_by_token():
    assert depths(PARENTS) == [0, 1, 2, 2, 3, 0, 4]
    assert branches(PARENTS) == [[0, 1, 3], [5], [0, 1, 2, 4, 6]]
    assert trunk_length(PARENTS) == 3
    assert trunk_length([-1, -1]) == 1 and trunk_length([-1, 0, 1]) == 3
    assert children(IDS, PARENTS) == {-1: {7: 0, 2: 5}, 0: {3: 1}, 1: {5: 2, 9: 3}, 2: {5: 4}, 4: {7: 6}}


@settings(deadline=None)
@given(parents=trees)
def test_the_branches_are_paths_that_cover_every_node(parents):
    check_parents(parents, len(parents))
    found = branches(parents)
    assert {node for branch in found for node in branch} == set(range(len(parents)))
    assert len({branch[-1] for branch in found}) == len(found)
    for branch in found:
        check_path(branch, parents)
        assert [depths(parents)[node] for node in branch] == list(range(len(branch)))


@pytest.mark.parametrize(
    ("parents", "words"),
    [
        ([-1], "1 parents for 2 nodes"),
        ([-1, 0, 0], "3 parents for 2 nodes"),
        ([-1, 1], "node 1 names parent 1"),
        ([1, -1], "node 0 names parent 1"),
        ([-1, -2], "node 1 names parent -2"),
    ],
)
def test_what_is_no_tree_is_refused(parents, words):
    with pytest.raises(InvalidRequestError, match=words):
        check_parents(parents, 2)
    with pytest.raises(InvalidRequestError, match=words):
        Work(1, 0, [5, 6], 1, parents).check(0, 100, 50)


@pytest.mark.parametrize("path", [[1], [0, 2], [0, 1, 1], [5, 0], [7], [-1], [0, 1, 2, 3]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(InvalidRequestError, match="does not run from a root"):
        check_path(path, PARENTS)


def test_siblings_of_one_token_are_refused_and_cousins_are_not():
    check_siblings(IDS, PARENTS)
    with pytest.raises(InvalidRequestError, match="drafts 2 and 3 are siblings with one token 5"):
        check_siblings([7, 3, 5, 5, 5, 2, 7], PARENTS)
    with pytest.raises(InvalidRequestError, match="drafts 0 and 5 are siblings with one token 7"):
        check_siblings([7, 3, 5, 9, 5, 7, 7], PARENTS)


def test_a_tree_takes_the_positions_of_its_depth_and_is_limited_in_its_branches():
    assert Work(1, 0, IDS, 7, PARENTS).length == 5
    Work(1, 0, IDS, 7, PARENTS).check(0, 5, 50)
    with pytest.raises(InvalidRequestError, match="0 \\+ 5 positions, the context holds 4"):
        Work(1, 0, IDS, 7, PARENTS).check(0, 4, 50)
    trunk, side = list(range(-1, 99)), [0] * MAX_DRAFTS
    Work(1, 0, [5] * 164, 1, trunk + side).check(0, 200, 50)
    with pytest.raises(InvalidRequestError, match=f"{MAX_DRAFTS + 1} nodes beside its trunk"):
        Work(1, 0, [5] * 165, 1, [*trunk, *side, 0]).check(0, 200, 50)


@settings(deadline=None)
@given(parents=trees, seed=st.integers(0, 10**6), stops=st.sets(st.integers(0, 3)))
def test_the_walk_emits_the_llms_own_draws_and_goes_on_while_a_child_holds_them(parents, seed, stops):
    size, first = 4, 17
    rng = np.random.default_rng(seed)
    # Distinct tokens among siblings: where there are too many for the vocabulary, the tree is cut.
    ids: list[int] = []
    for node, parent in enumerate(parents):
        free = set(range(size)) - {ids[n] for n in range(node) if parents[n] == parent}
        if not free:
            parents = parents[:node]
            break
        ids.append(int(rng.choice(sorted(free))))
    rows = rng.dirichlet(np.ones(size), len(ids) + 1)
    draws = Draws(session_key(seed, 0))
    verdict = verify_tree(ids, parents, lambda node: Known(rows[node + 1]), draws, first, stops)
    check_path(verdict.path, parents)
    emitted = [*(ids[node] for node in verdict.path), *([] if verdict.token is None else [verdict.token])]
    above = [-1, *verdict.path]
    own = [draw_alone(Known(rows[node + 1]), draws, first + n) for n, node in enumerate(above)]
    assert emitted == own[: len(emitted)]
    assert verdict.y_d == tuple(rows[a + 1][ids[b]] for a, b in zip(above, verdict.path, strict=False))
    # It ends where the LLM stops, or where no child holds its draw.
    assert not any(ids[node] in stops for node in verdict.path[:-1])
    if verdict.token is None:
        assert ids[verdict.path[-1]] in stops
    else:
        assert not (verdict.path and ids[verdict.path[-1]] in stops)
        assert verdict.token not in [i for i, p in zip(ids, parents, strict=True) if p == above[-1]]
