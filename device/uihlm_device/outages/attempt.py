"""A stream that is being opened in place of a lost one."""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_device.stream.session import Stream


@dataclass(frozen=True, slots=True)
class Attempt:
    """A stream that is being opened: its Open's round, the ids it tells, and since when."""

    stream: Stream
    round: int
    prefix: list[int]
    since_s: float
