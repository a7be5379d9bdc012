"""How an engine is shared: what the batcher and the servicer are told."""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_basestation.batcher import DEFAULT_CHUNK

# Devices served at once, unless told otherwise.
DEFAULT_SESSIONS = 16


@dataclass(frozen=True, slots=True)
class Serving:
    """Settings of one base station.

    Attributes:
        chunk: most positions of prompts in one forward that others may wait for.
        max_batch: most sessions in one forward; None is as many as have a cache.
        idle_s: a session that is silent for so long makes room; None lets it stay.
    """

    chunk: int = DEFAULT_CHUNK
    max_batch: int | None = None
    idle_s: float | None = None


DEFAULTS = Serving()
