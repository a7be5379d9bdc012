"""Which answers of a stream reject a draft: the LLM's own token took the place of one that was sent.

    chain   of the first draft that does not stand
    tree    of those that hang from the end of the path

An upload that continues a tree is judged from the node that holds the LLM's last draw. It brings that node itself, and so
all that hangs there: had it come before, it would have been judged before.
"""

from __future__ import annotations

from uihlm_basestation.engines.trees import ROOT
from uihlm_proto.codecs.ids import decode_id
from uihlm_proto.trees import child_of
from uihlm_proto.v1 import verification_pb2 as pb


class Rejections:
    """Reads a stream's uploads with their answers, in order, and remembers where the last walk ended."""

    def __init__(self, vocabulary_size: int) -> None:
        self._vocabulary_size = vocabulary_size
        self._end = ROOT
        self._draw = 0  # the LLM's, after that node

    def take(self, upload: pb.Upload, verdict: pb.Verdict) -> bool:
        """Return whether this answer rejects a draft."""
        if verdict.stale or not verdict.HasField("token_id"):
            return False
        if not upload.parents:
            return verdict.accepted < len(upload.drafts)
        end = verdict.path[-1] if verdict.path else self._root(upload)
        self._end, self._draw = end, verdict.token_id
        return end in upload.parents

    def _root(self, upload: pb.Upload) -> int:
        """Return the node from which an upload was judged."""
        if not upload.continues:
            return ROOT
        tokens = [decode_id(draft.payload, self._vocabulary_size) for draft in upload.drafts]
        found = child_of(tokens, upload.parents, self._end, self._draw)
        assert found is not None, "what does not hold the LLM's last draw is answered as stale"
        return upload.continues + found
