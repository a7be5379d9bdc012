"""How many nodes the device may run before a verdict is due, judged by the last verdict and the last batch."""

from __future__ import annotations

from dataclasses import dataclass

# Nodes a batch holds at most: a verdict that comes early waits for no more.
_MOST = 8


@dataclass(slots=True)
class Pace:
    """What waiting and running took last.

    Attributes:
        waited_s: from the last upload to its verdict; 0 before the first.
        node_s: what a node of the last batch took; 0 before the first.
    """

    waited_s: float = 0.0
    node_s: float = 0.0

    def fits(self, spent_s: float) -> int:
        """Return how many nodes fit into what is left of a wait of which `spent_s` are over; at most a batch."""
        left_s = self.waited_s - spent_s
        if left_s <= 0.0:
            return 0
        return _MOST if self.node_s == 0.0 else min(_MOST, int(left_s / self.node_s))

    def ran(self, nodes: int, spent_s: float) -> None:
        """Note what a batch took."""
        self.node_s = spent_s / nodes
