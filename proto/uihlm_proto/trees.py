"""A draft tree as it stands on the wire: tokens, and for each node its parent.

    parents[i] = the number of node i's parent, or −1 for a root

Siblings hold different tokens, so a node and a token name one child, or none.
"""

from __future__ import annotations

from collections.abc import Sequence


def child_of(tokens: Sequence[int], parents: Sequence[int], parent: int, token: int | None) -> int | None:
    """Return the node below `parent` that holds `token`; None if there is none.

    Args:
        tokens: of every node, `[N]`.
        parents: of every node, `[N]`; −1 is the parent of a root.
        parent: a node, or −1 for the place above the roots.
        token: None, which an LLM that has stopped draws, is held by no node.
    """
    nodes = enumerate(zip(tokens, parents, strict=True))
    return next((node for node, place in nodes if place == (token, parent)), None)
