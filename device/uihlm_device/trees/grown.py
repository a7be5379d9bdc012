"""A tree of drafts as it grows and is sent, and a draft of it as the records know drafts."""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_device.rules.policies import Evidence, known
from uihlm_device.trees.race import Race
from uihlm_device.trees.sent import Sent
from uihlm_device.trees.tree import Tree


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


@dataclass(slots=True)
class Grown:
    """A tree that grows after the last token that stands.

    Attributes:
        tree: what has run.
        race: whose candidates its nodes are.
        sent: what the base station has of it.
        draft_s: device seconds since the last verdict.
    """

    tree: Tree
    race: Race
    sent: Sent
    draft_s: float = 0.0

    def draft(self, node: int) -> TreeDraft:
        """Return a node that was sent as a draft."""
        place = self.sent.places[node]
        below = self.tree.candidates[place.below + 1]
        return TreeDraft(Evidence(below.tokens[place.rank], below.x[place.rank], None, None, None, None, None))
