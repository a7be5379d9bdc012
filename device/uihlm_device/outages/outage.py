"""What a device does when its base station is gone: give up at once, wait for it, or write on alone after a while.

    pause before attempt n = U(½, 1) · min(first · 2ⁿ, longest)       seconds, n = 0, 1, …

The jitter keeps the devices of a cell, who all lost one base station, from coming back in one moment.
"""

from __future__ import annotations

import enum
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from uihlm_device.rules.policies import Mode
from uihlm_proto.errors import ExhaustedError, InvalidRequestError, UihlmError, UnavailableError

T = TypeVar("T")


class OnOutage(enum.Enum):
    """How an answer goes on without its base station; an answer that gives up at once has no `Outage` at all."""

    LOCAL = "local"
    WAIT = "wait"


# Someone reads along where a device goes on alone; a restarted base station has its weights loaded well before the other.
PATIENCE_S = {OnOutage.LOCAL: 10.0, OnOutage.WAIT: 300.0}


class LinkLostError(UnavailableError):
    """The base station stayed away for longer than the device waits: it goes on alone."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What happens where the base station does not answer.

    Attributes:
        on_outage: once the wait is over, go on alone or give up.
        patience_s: the wait: seconds without an answer, in which lost streams are opened again. None is 10 where the
            device then goes on alone, and 300 where it gives up.

    Raises:
        InvalidRequestError: for a wait that is not positive and finite.
    """

    on_outage: OnOutage
    patience_s: float | None = None

    def __post_init__(self) -> None:
        if self.patience_s is not None and not 0.0 < self.patience_s < math.inf:
            raise InvalidRequestError(
                f"the wait for a lost base station is above 0 s and finite, got {self.patience_s}"
            )

    @property
    def bound_s(self) -> float:
        """The wait in seconds."""
        return PATIENCE_S[self.on_outage] if self.patience_s is None else self.patience_s

    def under(self, mode: Mode) -> Outage:
        """Return what holds under a policy: without a drafter there is nothing to go on with, so `llm` waits."""
        return Outage(OnOutage.WAIT, self.patience_s) if mode is Mode.LLM_ALONE else self


@dataclass(slots=True)
class Backoff:
    """The pauses between attempts of one outage.

    Attributes:
        first_s, longest_s: before the first attempt, and at most.
    """

    first_s: float = 0.05
    longest_s: float = 5.0
    # Not of the answer's draws: devices with one seed must not come back together.
    dice: random.Random = field(default_factory=random.SystemRandom)
    _next_s: float = field(default=0.0, init=False)

    def pause_s(self, error: UihlmError | None = None) -> float:
        """Return the seconds to let pass before the next attempt; after `error`, no less than a full base station asked for."""
        whole_s = self._next_s or self.first_s
        self._next_s = min(2.0 * whole_s, self.longest_s)
        asked_s = error.retry_after_s if isinstance(error, ExhaustedError) else None
        return (asked_s or 0.0) + whole_s * self.dice.uniform(0.5, 1.0)

    def over(self) -> None:
        """Start anew: the base station answers again."""
        self._next_s = 0.0


def insist(call: Callable[[], T], outage: Outage) -> T:
    """Make a call that needs no session until it is answered; once the wait is over, its error is raised."""
    end_s, backoff = time.monotonic() + outage.bound_s, Backoff()
    while True:
        try:
            return call()
        except (UnavailableError, ExhaustedError) as error:
            pause_s = backoff.pause_s(error)
            if time.monotonic() + pause_s >= end_s:
                raise
            sleep(pause_s)


def sleep(seconds: float) -> None:
    """Let time pass, in a wait that Ctrl-C breaks off (uihlm_cli/interrupts.py)."""
    threading.Event().wait(seconds)
