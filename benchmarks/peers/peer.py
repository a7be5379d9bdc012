"""What every way of writing answers has in common here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

TEMPERATURE = 0.6


class Peer(Protocol):
    """A way of writing an answer. Stop tokens are written on: every peer writes as many tokens as it is asked for."""

    def write(self, prompt: Sequence[int], tokens: int, seed: int) -> int:
        """Write `tokens` tokens after a prompt, from the prompt's prefill on; return how many came."""
