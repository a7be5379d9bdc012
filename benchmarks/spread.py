"""Medians with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """A median between the 10th and 90th percentile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values."""
        low, median, high = np.percentile(values, [10, 50, 90])
        return cls(float(median), float(low), float(high))

    def __format__(self, spec: str) -> str:
        """Format as `median [low, high]`."""
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"
