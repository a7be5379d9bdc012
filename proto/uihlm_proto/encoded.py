"""A request's bytes, made once for the two who need them: the link weighs a message, and the channel sends it next.

A distribution over V = 49,152 tokens is 0.2 MB; to make its message's bytes twice takes as long as the device's whole draw.
"""

from __future__ import annotations

import threading

from uihlm_proto.v1 import verification_pb2 as pb


class _OfThread(threading.local):
    """The request weighed last in the calling thread, and its bytes, until they are asked for again."""

    kept: tuple[pb.VerifyRequest, bytes] | None = None


_HERE = _OfThread()


def size_of(request: pb.VerifyRequest) -> int:
    """Return how many bytes a request takes; whoever changes it afterwards must ask again before it is sent."""
    made = request.SerializeToString()
    _HERE.kept = request, made
    return len(made)


def bytes_of(request: pb.VerifyRequest) -> bytes:
    """Return a request's bytes: those that `size_of` made, if it was asked for this very message last."""
    kept, _HERE.kept = _HERE.kept, None
    return kept[1] if kept is not None and kept[0] is request else request.SerializeToString()
