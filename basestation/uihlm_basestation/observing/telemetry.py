"""The seam: what a base station tells about itself, in events that hold neither a token nor a device.

    observed servicer ─┐                 ┌─▶ metrics (Prometheus)
                       ├─▶  Telemetry  ──┤
    observed engine   ─┘                 └─▶ session log

Nobody listens by default, and then nothing is wrapped: a round pays nothing for it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class RoundKind(enum.Enum):
    """What a round was for."""

    OPEN = "open"
    JUDGE = "judge"
    GENERATE = "generate"
    AUDIT = "audit"
    STALE = "stale"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Round:
    """One request and everything that answered it.

    Attributes:
        kind: what it was for.
        seconds: from the request's arrival to its last answer.
        forward_s, queue_s: the session's share of forwards, and its waits for the engine.
        forwards: forwards it took part in.
        accepted, rejected: drafts that stand, and drafts that the LLM's own token replaced; drafts behind a rejected one
            are neither.
        generated: tokens the LLM wrote alone.
        skipped: tokens committed without asking.
        payload_bit: codec bytes, skipped ids and audit bytes.
        request_bytes, answer_bytes: protobuf messages, without frames.
    """

    kind: RoundKind
    seconds: float
    forward_s: float = 0.0
    queue_s: float = 0.0
    forwards: int = 0
    accepted: int = 0
    rejected: int = 0
    generated: int = 0
    skipped: int = 0
    payload_bit: int = 0
    request_bytes: int = 0
    answer_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Forward:
    """One forward of the LLM: parts of that many sessions, positions of all, seconds; `failed` if it raised."""

    sessions: int
    positions: int
    seconds: float
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ended: the name of its gRPC status, whether a session ever stood, its rounds and its age."""

    status: str
    stood: bool
    rounds: int
    seconds: float


class Telemetry(Protocol):
    """Listens. Called on the event loop, `forward` in the engine's thread: return at once."""

    def opened(self) -> None:
        """Note that a session stands: its prefix is in the cache."""

    def round(self, round: Round) -> None:
        """Note a round that was answered."""

    def ended(self, ending: Ending) -> None:
        """Note that a stream ended, well or not."""

    def forward(self, forward: Forward) -> None:
        """Note a forward."""


class Listeners:
    """Tells several listeners, in order."""

    def __init__(self, listeners: Sequence[Telemetry]) -> None:
        self._listeners = tuple(listeners)

    def opened(self) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.opened()

    def round(self, round: Round) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.round(round)

    def ended(self, ending: Ending) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.ended(ending)

    def forward(self, forward: Forward) -> None:
        """Pass it on."""
        for listener in self._listeners:
            listener.forward(forward)
