"""How much one session and one peer may ask for: rates of messages and bytes by token buckets, and open calls.

    a bucket of rate r holds at most 2 r and gains r a second; a message of n takes n, or is refused

A peer is who its credentials say it is, or else where it comes from (`peers.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from uihlm_proto.errors import ExhaustedError

# A bucket that is full holds the rate of so many seconds, so that a burst after a pause is no offence.
BURST_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed; infinite where nothing is said.

    Attributes:
        session_messages_s: messages a second of one session.
        session_bytes_s: bytes a second of one session, as they stood in its messages.
        peer_messages_s: messages a second of all calls of one peer together.
        peer_bytes_s: bytes a second of all calls of one peer together.
        peer_sessions: calls of one peer open at once, sessions and scores; its health checks are counted apart.
    """

    session_messages_s: float = math.inf
    session_bytes_s: float = math.inf
    peer_messages_s: float = math.inf
    peer_bytes_s: float = math.inf
    peer_sessions: float = math.inf


UNLIMITED = Limits()

# Of `uihlm-bs serve`: an order of magnitude above what a device that waits for its verdicts can use.
SERVED = Limits(
    session_messages_s=1_000,
    session_bytes_s=128 * 2**20,
    peer_messages_s=4_000,
    peer_bytes_s=512 * 2**20,
    peer_sessions=8,
)


class Bucket:
    """A token bucket; the caller tells the time, seconds."""

    __slots__ = ("_at_s", "_full", "_held", "_rate")

    def __init__(self, rate: float, now_s: float) -> None:
        """Start full; the rate is a second's."""
        self._rate = rate
        self._full = self._held = rate * BURST_S
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take an amount and return whether it was there; one message larger than a full bucket passes if it is full."""
        self._held = min(self._full, self._held + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        wanted = min(amount, self._full)
        if wanted > self._held:
            return False
        self._held -= wanted
        return True

    def is_full(self, now_s: float) -> bool:
        """Return whether nothing is owed, so that the bucket may be forgotten."""
        return self._held + (now_s - self._at_s) * self._rate >= self._full


class Rates:
    """The two buckets of a session or a peer."""

    __slots__ = ("_buckets", "_who")

    def __init__(self, who: str, messages_s: float, bytes_s: float, now_s: float, flag: str) -> None:
        """Start full.

        Args:
            who: in the sentence of a refusal.
            messages_s, bytes_s: infinite is no limit.
            now_s: the time.
            flag: the stem of the base station's flags that set them.
        """
        self._who = who
        self._buckets = [
            (unit, rate, f"--{flag}-{unit}-s", Bucket(rate, now_s))
            for unit, rate in (("messages", messages_s), ("bytes", bytes_s))
            if rate < math.inf
        ]

    @property
    def bounded(self) -> bool:
        """Whether there is anything to account for."""
        return bool(self._buckets)

    def take(self, n_bytes: int, now_s: float) -> None:
        """Account for one message; ExhaustedError if it is one too many."""
        for unit, rate, flag, bucket in self._buckets:
            if not bucket.take(1 if unit == "messages" else n_bytes, now_s):
                raise ExhaustedError(
                    f"{self._who} sends more than {rate:,.0f} {unit}/s: send less, or serve with a larger {flag}"
                )

    def are_full(self, now_s: float) -> bool:
        """Return whether nothing is owed."""
        return all(bucket.is_full(now_s) for *_, bucket in self._buckets)
