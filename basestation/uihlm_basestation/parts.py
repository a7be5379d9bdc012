"""What a forward is made of: requests that wait, the part of each that goes next, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_basestation.chunks import Request
from uihlm_basestation.engines.engine import Work
from uihlm_proto.v1 import verification_pb2 as pb

# Given the rows of a request's last forward, `[rows, V]`: what the engine may run next, with nobody asked between; None if
# somebody must be. Called in the engine's thread, before anybody hears of those rows.
GoOn = Callable[[npt.NDArray[np.float32]], Work | None]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What one session got from a forward, or from several if it was cut.

    Attributes:
        rows: raw logits, `[rows, V]`.
        forward_s: this session's share of the forwards' seconds, by positions.
        queue_s: seconds it waited for the engine.
        positions: token positions run for it, those of a lost cache included.
        forwards: how many forwards it took part in.
        energy_j: this session's share of the joules counted during them, by positions; None without counters.
    """

    rows: npt.NDArray[np.float32]
    forward_s: float
    queue_s: float
    positions: int
    forwards: int = 1
    energy_j: float | None = None

    @property
    def cost(self) -> pb.Cost:
        """The same for the device; joules are unset where none were counted."""
        return pb.Cost(
            forward_s=self.forward_s,
            queue_s=self.queue_s,
            forwards=self.forwards,
            positions=self.positions,
            energy_j=self.energy_j,
        )

    def plus(self, later: Forwarded) -> Forwarded:
        """Return the sum of two, with the later one's rows."""
        told = self.energy_j is not None and later.energy_j is not None
        return Forwarded(
            later.rows,
            self.forward_s + later.forward_s,
            self.queue_s + later.queue_s,
            self.positions + later.positions,
            self.forwards + later.forwards,
            (self.energy_j or 0.0) + (later.energy_j or 0.0) if told else None,
        )


@dataclass(slots=True)
class Waiting:
    """A request that waits for its forward, or for the rest of them."""

    request: Request
    since_s: float
    done: asyncio.Future[Forwarded]
    go_on: GoOn | None = None
    # What has run for it so far: shares of forwards and of their joules, their full seconds, positions, forwards.
    share_s: float = 0.0
    share_j: float = 0.0
    forward_s: float = 0.0
    positions: int = 0
    forwards: int = 0
    # Positions run for it, or in its stead before it came: who has least is next. Below 0 it has not been weighed.
    served: int = -1

    @property
    def session(self) -> int:
        """Whose it is."""
        return self.request.work.session

    @property
    def started(self) -> bool:
        """Whether some of it has run."""
        return self.forwards > 0


@dataclass(frozen=True, slots=True)
class Part:
    """One request's part of the next forward."""

    waiting: Waiting
    work: Work
    positions: int
    last: bool


def first(waiting: Waiting, positions: int) -> Part:
    """Return the next positions of a long request, so many."""
    work = waiting.request.first(positions)
    return Part(waiting, work, len(work.new_ids), last=False)


def last(waiting: Waiting) -> Part:
    """Return all that is left of a request."""
    return Part(waiting, waiting.request.last(), waiting.request.positions, last=True)
