"""Joules of device and base station as they were measured: apart, or of one machine that is both.

J = J_machine                       where one meter reads both ends
J = J_device + J_basestation        where each end was read; unknown where one was not
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class EndJoules:
    """What meters read at either end; None where nothing did.

    Attributes:
        device_j: on the device's machine.
        basestation_j: on the base station's.
        machine_j: on one machine that was both; then the other two are None.
    """

    device_j: float | None = None
    basestation_j: float | None = None
    machine_j: float | None = None

    @property
    def total_j(self) -> float | None:
        """Both ends together; None unless both were measured."""
        if self.machine_j is not None:
            return self.machine_j
        if self.device_j is None or self.basestation_j is None:
            return None
        return self.device_j + self.basestation_j

    def with_told(self, told_j: float | None, forwards: int) -> Self:
        """Return them with what the base station told of its own joules, where that adds to what is known.

        Args:
            told_j: in its verdicts; None unless it told of every forward.
            forwards: that it ran. Without one it spent nothing, which is a measurement only beside one of the device.
        """
        # A wall meter's reading takes its place; one machine's counters have it in them already.
        if self.machine_j is not None or self.basestation_j is not None:
            return self
        if not forwards:
            told_j = None if self.device_j is None else 0.0
        return replace(self, basestation_j=told_j)
