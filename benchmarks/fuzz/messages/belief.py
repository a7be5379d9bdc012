"""What a device that keeps books believes of its session: enough to go on saying what is right, or nearly right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.fuzz.engine import MAX_CONTEXT
from uihlm_proto.v1 import verification_pb2 as pb


@dataclass(slots=True)
class Belief:
    """One session's books.

    Attributes:
        opened: whether Ready has come.
        codec: name of its uplink codec.
        length: ids that both ends agree on.
        epoch: corrections applied.
        bonus: the last bonus token, while nothing was judged after it.
        sure: whether every message so far was as a correct device writes it.
    """

    opened: bool = False
    codec: str = "dense32"
    length: int = 0
    epoch: int = 0
    bonus: int | None = None
    sure: bool = True

    @property
    def room(self) -> int:
        """Positions left."""
        return MAX_CONTEXT - self.length

    def take(self, request: pb.VerifyRequest, answers: Sequence[pb.VerifyResponse]) -> None:
        """Book what a request and all its answers have changed."""
        if request.HasField("open"):
            self.opened, self.codec, self.length = (
                True,
                request.open.codec,
                len(request.open.prefix_ids),
            )
            return
        upload, verdicts = request.upload, [answer.verdict for answer in answers]
        if verdicts[0].stale:
            # A wrong guess was a correction; an old epoch changes nothing.
            self.epoch += upload.epoch == self.epoch
            return
        self.length += len(upload.context_ids) + len(upload.skipped_ids)
        self.bonus = None
        if upload.generate:
            self.length += len(verdicts)
            return
        verdict = verdicts[0]
        follows = verdict.HasField("token_id")
        self.length += verdict.accepted + follows
        if not upload.drafts:
            return
        if upload.parents:
            end = verdict.path[-1] if verdict.path else -1
            corrected = end in upload.parents
            self.epoch += follows and corrected
        else:
            corrected = verdict.accepted < len(upload.drafts)
            self.epoch += corrected
        self.bonus = verdict.token_id if follows and not corrected else None
