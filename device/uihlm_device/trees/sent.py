"""What the base station has of a tree, which may be sent in several uploads: nodes are numbered on in the order they were sent.

The device's tree hangs from the last token that stands, and moves down with it; numbers stay, so a verdict says by them where
the LLM went.
"""

from __future__ import annotations

from collections.abc import Sequence

from uihlm_device.trees.tree import ROOT, Place, Tree
from uihlm_proto.trees import child_of


class Sent:
    """The nodes of one tree that were sent.

    Attributes:
        epoch, first_position: of its first upload.
        tokens, parents: of each node; ROOT is the parent of those at `first_position`.
        root: the node that the device's tree hangs from now; ROOT at first.
        places: where in the device's tree the nodes below `root` stand.
    """

    def __init__(self, epoch: int, first_position: int) -> None:
        self.epoch, self.first_position = epoch, first_position
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.root = ROOT
        self.places: dict[int, Place] = {}
        self._numbers: dict[Place, int] = {}

    def add(self, tree: Tree, places: Sequence[Place]) -> None:
        """Number more nodes, parents first."""
        for place in places:
            above = self.root if place.below == ROOT else self._numbers[tree.run[place.below]]
            self.tokens.append(tree.token(place))
            self.parents.append(above)
            self._place(place, len(self.parents) - 1)

    def further(self, tree: Tree, count: int) -> list[Place]:
        """Return the next likeliest nodes that were not sent, at most `count`, parents first."""
        return [place for place in tree.likeliest(len(self.places) + count) if place not in self._numbers][:count]

    def after(self, end: int, token: int | None) -> int | None:
        """Return the node that holds `token` below the node `end`, if it was sent."""
        return child_of(self.tokens, self.parents, end, token)

    def hang(self, root: int, tree: Tree) -> None:
        """Note that the device's tree hangs from a node now; what is not below it is dead."""
        self.root, self.places, self._numbers = root, {}, {}
        for node in range(root + 1, len(self.parents)):
            above = self.parents[node]
            if above == root or above in self.places:
                # What has a child has run.
                below = ROOT if above == root else tree.run.index(self.places[above])
                self._place(Place(below, tree.candidates[below + 1].tokens.index(self.tokens[node])), node)

    def _place(self, place: Place, node: int) -> None:
        self.places[node], self._numbers[place] = place, node
