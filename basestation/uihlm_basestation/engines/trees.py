"""A draft tree as a list of parents beside its ids, and what follows from it.

    parents[i] = the index of node i's parent, before i, or −1 for a root (a child of the last position that is kept)
    depth[i]   = 0 for a root, else depth[parents[i]] + 1; node i takes the position keep_len + depth[i]

A path is a run of nodes from a root downwards, each the parent of the next. The trunk is what leads without branching:
node 0 a root and parents[i] = i − 1 from there on.
"""

from __future__ import annotations

from collections.abc import Sequence

from uihlm_proto.errors import InvalidRequestError

ROOT = -1


def check_parents(parents: Sequence[int], nodes: int) -> None:
    """Refuse a list that is no tree over `nodes` nodes.

    Raises:
        InvalidRequestError: another number of parents than nodes, or a parent that does not come before its child.
    """
    if len(parents) != nodes:
        raise InvalidRequestError(f"{len(parents)} parents for {nodes} nodes: a tree gives one for each")
    for node, parent in enumerate(parents):
        if not ROOT <= parent < node:
            raise InvalidRequestError(
                f"node {node} names parent {parent}: a parent comes before its child (0 … {node - 1}), or is {ROOT} for a"
                " root"
            )


def check_path(path: Sequence[int], parents: Sequence[int]) -> None:
    """Refuse what is not a path from a root of the tree downwards; the empty path is one.

    Raises:
        InvalidRequestError: a node the tree does not have, or one whose parent is not the node before it.
    """
    before = ROOT
    for node in path:
        if not 0 <= node < len(parents) or parents[node] != before:
            raise InvalidRequestError(
                f"the path {list(path)} does not run from a root of the tree downwards: {node} does not follow {before}"
            )
        before = node


def check_siblings(ids: Sequence[int], parents: Sequence[int]) -> None:
    """Refuse two children of one node with one token: a draw could not tell them apart.

    Raises:
        InvalidRequestError: two siblings hold the same id.
    """
    seen: dict[tuple[int, int], int] = {}
    for node, (parent, token) in enumerate(zip(parents, ids, strict=True)):
        twin = seen.setdefault((parent, token), node)
        if twin != node:
            raise InvalidRequestError(
                f"drafts {twin} and {node} are siblings with one token {token}: send each branch once"
            )


def depths(parents: Sequence[int]) -> list[int]:
    """Return each node's depth, 0 for a root."""
    found: list[int] = []
    for parent in parents:
        found.append(0 if parent == ROOT else found[parent] + 1)
    return found


def trunk_length(parents: Sequence[int]) -> int:
    """Return how many nodes lead the tree before it may branch; all of them in a chain."""
    return next((node for node, parent in enumerate(parents) if parent != node - 1), len(parents))


def branches(parents: Sequence[int]) -> list[list[int]]:
    """Return the path to every leaf, in the order of the leaves."""
    inner = set(parents)
    found = []
    for leaf in range(len(parents)):
        if leaf in inner:
            continue
        path = [leaf]
        while parents[path[-1]] != ROOT:
            path.append(parents[path[-1]])
        found.append(path[::-1])
    return found


def children(ids: Sequence[int], parents: Sequence[int]) -> dict[int, dict[int, int]]:
    """Return for every node with children (−1: the roots' common parent) its children by token."""
    found: dict[int, dict[int, int]] = {}
    for node, (parent, token) in enumerate(zip(parents, ids, strict=True)):
        found.setdefault(parent, {})[token] = node
    return found
