"""A tree of drafts as it is sent, and a draft of it as the records know drafts."""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_device.rules.policies import Evidence, known
from uihlm_device.trees.race import Race
from uihlm_device.trees.tree import Place, Tree


@dataclass(frozen=True, slots=True)
class TreeDraft:
    """A draft of a tree, for its record; what growing took is charged to the round."""

    evidence: Evidence
    attention: None = None
    draft_s: float = 0.0

    @property
    def x_d(self) -> float:
        """The drafter's probability of it."""
        return known(self.evidence.x_d)


@dataclass(frozen=True, slots=True)
class Grown:
    """A tree as it is sent.

    Attributes:
        tree: what has run, of which this is a part.
        race: whose candidates its nodes are.
        places: its drafts.
        parents: the index of each one's parent.
        draft_s: device seconds it took.
    """

    tree: Tree
    race: Race
    places: list[Place]
    parents: list[int]
    draft_s: float

    def draft(self, node: int) -> TreeDraft:
        """Return a node as a draft."""
        place = self.places[node]
        below = self.tree.candidates[place.below + 1]
        return TreeDraft(Evidence(below.tokens[place.rank], below.x[place.rank], None, None, None, None, None))
