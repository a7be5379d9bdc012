"""What the decode loop asks of a base station, whatever carries the messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Upload:
    """One request of the loop (proto/uihlm/v1/verification.proto, `Upload`).

    Attributes:
        epoch: corrections applied so far.
        first_position: absolute position of the first draft, or of the first token to generate.
        context_ids: ids before this answer that the base station has not seen.
        skipped_ids: ids of this answer committed without asking since the last upload.
        payloads: codec bytes of each draft.
        generate: with no drafts, how many tokens the LLM may write.
        assumed_id: the bonus token that this upload takes for granted, whose verdict is still in flight.
        parents: of a tree, the index in `payloads` of each draft's parent, −1 for a root; empty for a chain.
        audit: one byte a skipped id (uihlm_proto/audit.py), or none; without drafts it is all the upload asks for.
    """

    epoch: int
    first_position: int
    context_ids: Sequence[int] = ()
    skipped_ids: Sequence[int] = ()
    payloads: Sequence[bytes] = ()
    generate: int = 0
    assumed_id: int | None = None
    parents: Sequence[int] = ()
    audit: bytes = b""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a message cost the base station; see `Cost` in the protocol."""

    forward_s: float = 0.0
    queue_s: float = 0.0
    forwards: int = 0
    positions: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The base station's word on one upload; see `Verdict` in the protocol.

    Attributes:
        accepted: how many drafts stand.
        token: the token after them, if any.
        y_d, reject_prob, tv: per judged draft; the last two are empty where the base station does not know x.
        skipped_reject_prob: per audited skipped token.
        stale: nothing was judged: the upload was built on a corrected round.
        last: the last verdict of a `generate` round.
        cost: what it cost the base station.
        path: of a tree, the drafts that stand, from a root down.
    """

    accepted: int
    token: int | None
    y_d: Sequence[float] = ()
    reject_prob: Sequence[float] = ()
    tv: Sequence[float] = ()
    skipped_reject_prob: Sequence[float] = ()
    stale: bool = False
    last: bool = True
    cost: Cost = field(default_factory=Cost)
    path: Sequence[int] = ()


class Session(Protocol):
    """One stream to a base station. Round numbers are unique within a connection."""

    def open(self, prefix_ids: Sequence[int], key: bytes) -> int:
        """Send Open and return its round without waiting."""

    def ready(self) -> Cost:
        """Wait until the base station has prefilled the prefix; UihlmError says why it refused."""

    def upload(self, upload: Upload) -> int:
        """Send an upload and return its round without waiting."""

    def arrived(self, round_number: int) -> bool:
        """Return whether the next verdict of a round is there, or the error that takes its place."""

    def verdict(self, round_number: int) -> Verdict:
        """Wait for the next verdict of a round; UihlmError says why there is none."""

    def close(self) -> None:
        """End the stream; safe to call twice."""
