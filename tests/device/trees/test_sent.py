"""What the base station has of a tree that grows, moves down and is sent in parts."""

from __future__ import annotations

import pytest

from uihlm_device.stream.session import Verdict
from uihlm_device.trees.flight import TreeFlight, check_walk
from uihlm_device.trees.sent import Sent
from uihlm_device.trees.tree import ROOT, Candidates, Place, Tree
from uihlm_proto.errors import ProtocolError

USUAL = (0.6, 0.3, 0.1)
STOP = 102


def planted() -> Tree:
    """A tree whose root and its first and second candidate have run; tokens tell depth and rank."""
    tree = Tree(3, 9, USUAL, frozenset())
    tree.plant(below(0))
    tree.add(Place(ROOT, 0), below(10))
    tree.add(Place(ROOT, 1), below(20))
    tree.add(Place(0, 0), below(30))
    return tree


def below(first: int) -> Candidates:
    return Candidates(tuple(range(first, first + 3)), USUAL, USUAL, ())


def test_nodes_are_numbered_on_and_none_is_sent_twice():
    tree, sent = planted(), Sent(0, 7)
    sent.add(tree, tree.likeliest(3))
    # 0.6; 0.36 below it; 0.3 beside it.
    assert (sent.tokens, sent.parents) == ([0, 10, 1], [ROOT, 0, ROOT])
    more = sent.further(tree, 3)
    sent.add(tree, more)
    # 0.216, then 0.18 twice, each after its parent.
    assert sent.tokens[3:] == [30, 11, 20] and sent.parents[3:] == [1, 0, 2]
    assert not set(sent.further(tree, 9)) & set(sent.places.values())
    assert [tree.token(sent.places[node]) for node in range(6)] == sent.tokens


def test_a_draw_is_found_where_it_came():
    tree, sent = planted(), Sent(0, 7)
    sent.add(tree, tree.likeliest(6))
    assert sent.after(ROOT, 1) == 2 and sent.after(0, 10) == 1 and sent.after(2, 20) == 5
    assert sent.after(ROOT, 10) is None and sent.after(1, None) is None


def test_numbers_stay_where_the_tree_moves_down():
    tree, sent = planted(), Sent(0, 7)
    sent.add(tree, tree.likeliest(6))
    found = tree.below(None, 0)
    assert found is not None
    rest, _ = found
    sent.hang(0, rest)
    # What hung from node 0 stands under its old numbers; what hung beside it is dead.
    assert sent.places == {1: Place(ROOT, 0), 3: Place(0, 0), 4: Place(ROOT, 1)}
    sent.add(rest, [place for place in sent.further(rest, 2) if place.below != ROOT][:1])
    assert sent.parents[-1] == 1 and sent.tokens[-1] == 31


def verdict_on(path: list[int], token: int | None, **fields: bool) -> Verdict:
    return Verdict(len(path), token, path=path, **fields)


@pytest.mark.parametrize(
    ("path", "token", "left", "fits"),
    [
        ([], 5, 9, True),
        ([0, 1], 5, 9, True),
        ([2], None, 9, False),
        ([1], 5, 9, False),  # not from the root down
        ([0, 2], 5, 9, False),
        ([9], 5, 9, False),
        ([3], None, 9, True),  # a stop token ends it
        ([3], 5, 9, False),
        ([0], None, 1, True),  # the last of an answer
        ([0], 5, 1, False),
    ],
)
def test_a_walk_is_checked(path: list[int], token: int | None, left: int, fits: bool):
    sent = Sent(0, 7)
    sent.tokens, sent.parents = [0, 10, 1, STOP], [ROOT, 0, ROOT, ROOT]
    sent.places = {node: Place(ROOT, node) for node in range(4)}
    flight = TreeFlight(1, 1, range(4))
    if fits:
        check_walk(verdict_on(path, token), path, sent, flight, left, frozenset({STOP}))
        return
    with pytest.raises(ProtocolError, match="makes no sense"):
        check_walk(verdict_on(path, token), path, sent, flight, left, frozenset({STOP}))


def test_a_walk_ends_in_what_had_been_sent_and_is_not_stale():
    sent = Sent(0, 7)
    sent.tokens, sent.parents = [0, 10], [ROOT, 0]
    sent.places = {node: Place(ROOT, node) for node in range(2)}
    with pytest.raises(ProtocolError, match="makes no sense"):
        check_walk(verdict_on([0, 1], 5), [0, 1], sent, TreeFlight(1, 1, range(1)), 9, frozenset())
    with pytest.raises(ProtocolError, match="makes no sense"):
        check_walk(verdict_on([0], 5, stale=True), [0], sent, TreeFlight(1, 1, range(2)), 9, frozenset())
