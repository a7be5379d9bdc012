"""What a base station asks of energy counters, whoever reads them: the command line brings some, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class EnergyCounters(Protocol):
    """Joules of the machine that the LLM runs on."""

    def begin(self) -> Callable[[], float]:
        """Begin a window; call what is returned once, to end it: the joules in between."""
