"""What a device that keeps books believes of its session: enough to go on saying what is right, or nearly right."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.fuzz.engine import MAX_CONTEXT, STOP, VOCABULARY
from uihlm_proto.codecs import Codec, codec
from uihlm_proto.v1 import verification_pb2 as pb


@dataclass(slots=True)
class Tree:
    """What was sent of a draft tree that may be continued, and the node after which the LLM's last draw came."""

    epoch: int
    first_position: int
    tokens: list[int]
    parents: list[int]
    end: int


@dataclass(slots=True)
class Belief:
    """One session's books.

    Attributes:
        opened: whether Ready has come.
        codec: name of its uplink codec.
        greedy: whether the LLM takes its likeliest token, so that a device may guess it.
        ids: that both ends agree on.
        epoch: corrections applied.
        bonus: the last bonus token, while nothing was judged after it.
        tree: the last one, while it may be continued.
        sure: whether every message so far was as a correct device writes it.
    """

    opened: bool = False
    codec: str = "dense32"
    greedy: bool = False
    ids: list[int] = field(default_factory=list)
    epoch: int = 0
    bonus: int | None = None
    tree: Tree | None = None
    sure: bool = True

    @property
    def length(self) -> int:
        """How many ids both ends agree on."""
        return len(self.ids)

    @property
    def room(self) -> int:
        """Positions left."""
        return MAX_CONTEXT - self.length

    def take(self, request: pb.VerifyRequest, answers: Sequence[pb.VerifyResponse]) -> None:
        """Book what a request and all its answers have changed."""
        if request.HasField("open"):
            self.opened, self.codec, self.ids = True, request.open.codec, list(request.open.prefix_ids)
            self.greedy = request.open.sampling.temperature == 0.0
            return
        upload, verdicts = request.upload, [answer.verdict for answer in answers]
        if upload.continues:
            self._continue(upload, verdicts[0])
            return
        if verdicts[0].stale:
            # A wrong guess was a correction; an old epoch changes nothing.
            self.epoch += upload.epoch == self.epoch
            return
        self.ids += [*upload.context_ids, *upload.skipped_ids]
        self.bonus = self.tree = None
        if upload.generate:
            self.ids += [token for verdict in verdicts for token in (*verdict.written_ids, verdict.token_id)]
            return
        verdict = verdicts[0]
        stands = list(verdict.path) if upload.parents else range(verdict.accepted)
        if stands:
            read = _codec(self.codec)
            self.ids += [read.decode(upload.drafts[node].payload).token for node in stands]
        follows = verdict.HasField("token_id")
        if follows:
            self.ids.append(verdict.token_id)
        if not upload.drafts:
            return
        if upload.parents:
            end = stands[-1] if stands else -1
            corrected = end in upload.parents
            self.epoch += follows and corrected
            if follows and verdict.token_id != STOP:
                tokens = [_codec(self.codec).decode(draft.payload).token for draft in upload.drafts]
                self.tree = Tree(upload.epoch, upload.first_position, tokens, list(upload.parents), end)
        else:
            corrected = verdict.accepted < len(upload.drafts)
            self.epoch += corrected
        self.bonus = verdict.token_id if follows and not corrected else None

    def _continue(self, upload: pb.Upload, verdict: pb.Verdict) -> None:
        tree = self.tree
        if tree is None or upload.epoch != tree.epoch:
            # Passed over by the base station, whatever it holds.
            return
        tree.tokens += [_codec(self.codec).decode(draft.payload).token for draft in upload.drafts]
        tree.parents += upload.parents
        if verdict.stale:
            return
        nodes = range(len(tree.tokens))
        (start,) = [n for n in nodes if tree.parents[n] == tree.end and tree.tokens[n] == self.ids[-1]]
        tree.end = verdict.path[-1] if verdict.path else start
        self.ids += [tree.tokens[node] for node in verdict.path]
        follows, corrected = verdict.HasField("token_id"), tree.end in tree.parents
        if follows:
            self.ids.append(verdict.token_id)
        self.epoch += follows and corrected
        self.bonus = verdict.token_id if follows and not corrected else None
        if not follows or verdict.token_id == STOP:
            self.tree = None


@functools.lru_cache
def _codec(name: str) -> Codec:
    return codec(name, VOCABULARY)
