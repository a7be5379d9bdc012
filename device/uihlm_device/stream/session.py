"""What the decode loop asks of a base station, whatever carries the messages."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from uihlm_proto.errors import UnavailableError


class RunOn(enum.IntEnum):
    """When the base station runs the token that a verdict ends with; see `RunOn` in the protocol."""

    NO = 0
    NOW = 1
    COUNTED = 2


@dataclass(frozen=True, slots=True)
class Upload:
    """One request of the loop (proto/uihlm/v1/verification.proto, `Upload`).

    Attributes:
        epoch: corrections applied so far.
        first_position: absolute position of the first draft, or of the first token to generate.
        context_ids: ids before this answer that the base station has not seen.
        skipped_ids: ids of this answer committed without asking since the last upload.
        payloads: codec bytes of each draft.
        tokens: the drafts' ids, which the payloads hold as well; not sent.
        generate: with no drafts, how many tokens the LLM may write.
        stream_interval: with `generate`, tokens a verdict, but for the first, which tells of one, and the last.
        assumed_id: the bonus token that this upload takes for granted, whose verdict is still in flight.
        parents: of a tree, the index in `payloads` of each draft's parent, −1 for a root; empty for a chain.
        continues: of a tree, how many of its nodes were sent before; then `parents` counts from its first node.
        audit: one byte a skipped id (uihlm_proto/audit.py), or none; without drafts it is all the upload asks for.
        run_on: whether the LLM's forward after this verdict may begin with it.
    """

    epoch: int
    first_position: int
    context_ids: Sequence[int] = ()
    skipped_ids: Sequence[int] = ()
    payloads: Sequence[bytes] = ()
    tokens: Sequence[int] = ()
    generate: int = 0
    stream_interval: int = 1
    assumed_id: int | None = None
    parents: Sequence[int] = ()
    continues: int = 0
    audit: bytes = b""
    run_on: RunOn = RunOn.NO


@dataclass(frozen=True, slots=True)
class Cost:
    """What a message cost the base station; see `Cost` in the protocol. `energy_j` is None where it was not measured."""

    forward_s: float = 0.0
    queue_s: float = 0.0
    forwards: int = 0
    positions: int = 0
    energy_j: float | None = None

    def plus(self, other: Cost) -> Cost:
        """Return the sum; its joules are known if those of every forward are."""
        told = [cost.energy_j for cost in (self, other) if cost.forwards]
        known = [joules for joules in told if joules is not None]
        return Cost(
            self.forward_s + other.forward_s,
            self.queue_s + other.queue_s,
            self.forwards + other.forwards,
            self.positions + other.positions,
            sum(known) if known and len(known) == len(told) else None,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The base station's word on one upload; see `Verdict` in the protocol.

    Attributes:
        accepted: how many drafts stand.
        token: the token after them, if any.
        y_d, reject_prob, tv: per judged draft; the last two are empty where the base station does not know x.
        skipped_reject_prob: per audited skipped token.
        stale: nothing was judged: the upload was built on a corrected round, or on branches that the LLM left.
        last: the last verdict of a `generate` round.
        cost: what it cost the base station.
        path: of a tree, the nodes that stand, from a root down.
        written: of a `generate` round, tokens before `token` that no verdict has told of.
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
    written: Sequence[int] = ()


class SilentError(UnavailableError):
    """An answer has not come in the time allowed; the stream itself has not failed."""


class Session(Protocol):
    """One stream to a base station. Round numbers are unique within a connection."""

    @property
    def max_context(self) -> int | None:
        """Ids a session may hold, prefix included; None before the base station has said."""

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

    def reachable(self) -> bool:
        """Return whether a base station is there to be asked; a device that may go on alone looks before it asks."""

    def close(self) -> None:
        """End the stream; safe to call twice."""


class Stream(Session, Protocol):
    """A session on one stream, which ends with it; another one may take its place (uihlm_device/outages/lasting_session.py)."""

    @property
    def timeout_s(self) -> float:
        """How long any one answer is waited for, unless a call says less; seconds."""

    @property
    def reached(self) -> bool:
        """Whether the base station has ever answered on this stream's connection."""

    def open(self, prefix_ids: Sequence[int], key: bytes, *, again: bool = False) -> int:
        """Send Open and return its round; `again` says that this stream takes the place of one that was lost."""

    def ready(self, timeout_s: float | None = None) -> Cost:
        """Wait for Ready; SilentError after `timeout_s`."""

    def upload(self, upload: Upload, round_number: int | None = None) -> int:
        """Send an upload, under the number it had on a lost stream or a new one."""

    def verdict(self, round_number: int, timeout_s: float | None = None) -> Verdict:
        """Wait for a verdict; SilentError after `timeout_s`."""

    def close(self, timeout_s: float | None = None) -> None:
        """End the stream; hang up if the base station has not ended it after `timeout_s`."""

    def hang_up(self, dead: bool = False) -> None:
        """Drop the stream at once; where the link seems `dead`, what is opened next takes another one."""

    def abandon(self) -> None:
        """End the stream from another thread; its own then finds it failed, and closes it."""
