"""An upload of a tree on its way, and what its verdict may say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_device.stream.session import Verdict
from uihlm_device.trees.sent import Sent
from uihlm_proto.errors import ProtocolError


@dataclass(slots=True)
class TreeFlight:
    """An upload without verdict.

    Attributes:
        round: its number on the connection.
        number: its number in the answer, from 1.
        nodes: the numbers of those it carries.
        verdict: the answer, once read.
    """

    round: int
    number: int
    nodes: range
    verdict: Verdict | None = None


def check_walk(
    verdict: Verdict, path: Sequence[int], sent: Sent, flight: TreeFlight, left: int, stop_ids: frozenset[int]
) -> None:
    """Raise ProtocolError if a verdict is no answer to what was sent so far, `left` tokens before the answer's end."""
    above = [sent.root, *path[:-1]]
    known = all(node in sent.places and node < flight.nodes.stop for node in path)
    if known and not verdict.stale and [sent.parents[node] for node in path] == above[: len(path)]:
        ends = [sent.tokens[node] in stop_ids for node in path]
        stopped = bool(ends) and ends[-1]
        alone = left == 1 and bool(path)
        if not any(ends[:-1]) and (verdict.token is None) == (stopped or alone):
            return
    raise ProtocolError(f"the base station's verdict on a tree of {len(sent.parents)} drafts makes no sense: {verdict}")
