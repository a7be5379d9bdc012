"""A draft tree that the device goes on sending while verdicts on what it sent before are on their way.

    new tree       nodes 0 … n−1; the walk ends at one of them, e, and the LLM's own draw t follows
    continuation   nodes n … m−1, below any node before them. If one of them holds t below e, what hangs from it is judged as
                   a tree after t, and the walk goes on from there; else nothing is judged, and the tree waits for the next

So a device need not know where the walk left its tree to draft what follows: it sends the likeliest places, and all but one
of them cost nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from uihlm_basestation.engines.trees import ROOT, check_siblings
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.limits import MAX_TREE
from uihlm_proto.trees import child_of
from uihlm_proto.v1 import verification_pb2 as pb


@dataclass(frozen=True, slots=True)
class OpenTree:
    """What has been sent of a tree, and where the walk stands.

    Attributes:
        epoch: of its first upload, and so of all.
        first_position: of its roots.
        tokens, parents: of every node sent; −1 is the parent of a root.
        end: the node after which the LLM's last draw came, −1 if that took the place of a root.
    """

    epoch: int
    first_position: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    end: int = ROOT

    def with_more(self, request: pb.Upload, tokens: Sequence[int]) -> OpenTree:
        """Return the tree with what an upload adds to it, of which the drafts are `tokens`.

        Raises:
            InvalidRequestError: another number of nodes before them, or another position, than were sent; a parent that
                does not come before its child; siblings that hold one token; more than MAX_TREE nodes.
        """
        known, parents = len(self.tokens), tuple(request.parents)
        if request.continues != known or request.first_position != self.first_position:
            raise InvalidRequestError(
                f"this continues a tree of {request.continues} nodes at position {request.first_position}, but {known} were "
                f"sent of one at {self.first_position}: out of step"
            )
        if known + len(tokens) > MAX_TREE:
            raise InvalidRequestError(f"a tree of {known + len(tokens)} nodes: at most {MAX_TREE}; begin a new one")
        if len(parents) != len(tokens) or not all(ROOT <= p < known + i for i, p in enumerate(parents)):
            raise InvalidRequestError(
                f"parents {list(parents)} for nodes {known} … {known + len(tokens) - 1}: one for each, before it, or {ROOT} "
                "for a root"
            )
        check_siblings([*self.tokens, *tokens], [*self.parents, *parents])
        return replace(self, tokens=(*self.tokens, *tokens), parents=self.parents + parents)

    def after(self, token: int) -> int | None:
        """Return the node that holds the LLM's last draw, if it was sent."""
        return child_of(self.tokens, self.parents, self.end, token)

    def below(self, root: int) -> list[int]:
        """Return the nodes that hang from `root`, itself left out, parents first."""
        under = {root}
        for node in range(root + 1, len(self.parents)):
            if self.parents[node] in under:
                under.add(node)
        return sorted(under - {root})

    def hanging(self, root: int, nodes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return tokens and parents of `nodes`, counted among themselves; those below `root` are the roots."""
        local = {root: ROOT} | {node: index for index, node in enumerate(nodes)}
        return [self.tokens[node] for node in nodes], [local[self.parents[node]] for node in nodes]


def check_continuation(request: pb.Upload) -> None:
    """Raise InvalidRequestError unless an upload that continues a tree holds drafts with their parents, and nothing else."""
    others = request.context_ids or request.skipped_ids or request.audit or request.generate or request.run_on
    if others or request.stream_interval or request.HasField("assumed_id") or not request.drafts:
        raise InvalidRequestError("an Upload that continues a tree holds drafts and their parents, and nothing else")
