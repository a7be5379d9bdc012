"""Which child of a node holds a token."""

from __future__ import annotations

import pytest

from uihlm_proto.trees import child_of

# Roots 0 (token 4) and 1 (5); below 0 the nodes 2 (4) and 3 (6), below 1 node 4 (6), below 3 node 5 (4).
TOKENS = [4, 5, 4, 6, 6, 4]
PARENTS = [-1, -1, 0, 0, 1, 3]


@pytest.mark.parametrize(
    ("parent", "token", "node"), [(-1, 4, 0), (-1, 5, 1), (0, 4, 2), (0, 6, 3), (1, 6, 4), (3, 4, 5)]
)
def test_a_node_is_found_by_its_parent_and_its_token(parent, token, node):
    assert child_of(TOKENS, PARENTS, parent, token) == node


@pytest.mark.parametrize(("parent", "token"), [(-1, 6), (1, 4), (0, 5), (5, 4), (6, 4), (0, None)])
def test_a_token_that_no_child_of_the_node_holds_is_not_found(parent, token):
    assert child_of(TOKENS, PARENTS, parent, token) is None


def test_nothing_hangs_in_an_empty_tree():
    assert child_of([], [], -1, 4) is None


def test_each_node_has_a_token_and_a_parent():
    with pytest.raises(ValueError, match="zip"):
        child_of([4, 5], [-1], -1, 6)
