"""What a wall meter says of a stretch of time, from its readings.

    watts     J = ∫ P dt       P: straight lines between readings (trapezoid rule, cut where the stretch begins and ends)
    joules    J = E(end) − E(start)       E: straight lines between readings

Readings and stretches share one clock: seconds since 1970 (UTC).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError

# A pause between readings so many times the usual one is a meter that had stopped.
MAX_PAUSE = 10.0


class Quantity(enum.Enum):
    """What a reading is."""

    WATTS = "watts"
    JOULES = "cumulative joules"


class UncoveredError(InvalidRequestError):
    """The readings do not reach over a stretch of time that was asked for."""


@dataclass(frozen=True, slots=True)
class WallMeter:
    """Readings of one meter.

    Attributes:
        source: where they come from, for messages.
        quantity: what they are.
        times_s: [reading], seconds since 1970, increasing; at least two.
        values: [reading], watts, or joules that never fall.
    """

    source: str
    quantity: Quantity
    times_s: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]

    @property
    def interval_s(self) -> float:
        """The usual time between two readings: the median."""
        return float(np.median(np.diff(self.times_s)))

    def energy_j(self, started_unix_s: float, ended_unix_s: float) -> float:
        """Return the joules of a stretch.

        Raises:
            UncoveredError: if it begins before the first reading or ends after the last, or the meter had stopped meanwhile.
            InvalidRequestError: if it ends before it begins.
        """
        if not started_unix_s <= ended_unix_s:
            raise InvalidRequestError(
                f"a stretch of time from {started_unix_s:.3f} to {ended_unix_s:.3f} ends before it begins: was the clock of "
                "this machine set back?"
            )
        self._check_covered(started_unix_s, ended_unix_s)
        if self.quantity is Quantity.JOULES:
            start_j, end_j = np.interp([started_unix_s, ended_unix_s], self.times_s, self.values)
            return float(end_j - start_j)
        inside = (self.times_s > started_unix_s) & (self.times_s < ended_unix_s)
        times_s = np.concatenate([[started_unix_s], self.times_s[inside], [ended_unix_s]])
        watts = np.interp(times_s, self.times_s, self.values)
        return float(np.sum(np.diff(times_s) * (watts[1:] + watts[:-1]) / 2.0))

    def _check_covered(self, start_s: float, end_s: float) -> None:
        first_s, last_s = float(self.times_s[0]), float(self.times_s[-1])
        if start_s < first_s or end_s > last_s:
            side = f"starts {first_s - start_s:.1f} s too late" if start_s < first_s else ""
            other = f"ends {end_s - last_s:.1f} s too early" if end_s > last_s else ""
            raise UncoveredError(
                f"{self.source} {' and '.join(filter(None, (side, other)))}: it has readings from {first_s:.3f} to "
                f"{last_s:.3f} (seconds since 1970), and {start_s:.3f} to {end_s:.3f} is asked for; give a file that covers "
                "it, and check that both clocks are set and that its times have the right offset from UTC"
            )
        before = max(0, int(np.searchsorted(self.times_s, start_s, side="right")) - 1)
        after = int(np.searchsorted(self.times_s, end_s, side="left"))
        pauses_s = np.diff(self.times_s[before : after + 1])
        longest_s = float(pauses_s.max()) if len(pauses_s) else 0.0
        if longest_s > MAX_PAUSE * self.interval_s:
            at_s = float(self.times_s[before + int(np.argmax(pauses_s))])
            raise UncoveredError(
                f"{self.source} has no reading for {longest_s:.1f} s from {at_s:.3f} on, within {start_s:.3f} to "
                f"{end_s:.3f}, though it usually has one every {self.interval_s:g} s: the meter had stopped; a meter that "
                "writes changes alone needs its file filled up to even steps first"
            )
