"""Joules of a chat as they were measured, in words, with the modelled ones beside them.

Counters that fail cost a chat its joules and no answer: the lines say so from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from uihlm_cli.options.meters import OpenMeter
from uihlm_device.turn import Turn
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.joules.counters import Asking, Measured
from uihlm_wireless.joules.ends import EndJoules

_ENDS = ("device", "basestation", "machine")


class ChatMeter:
    """Measures every answer of a chat: by counters at once, by a wall meter's file as far as that has come."""

    def __init__(self, meter: OpenMeter | None, profile: JouleProfile) -> None:
        """Measure with `meter`; with None, what the base station tells of itself is all there is."""
        self._meter = meter
        self._profile = profile
        self._windows: list[Measured] = []
        self._asking = Asking()

    def begin(self) -> Callable[[], None]:
        """Begin an answer; call what is returned once, at its end."""
        end = None if self._meter is None else self._asking.ask(self._meter.window.begin)

        def ended() -> None:
            window = None if end is None else self._asking.ask(end)
            if window is not None:
                self._windows.append(window)

        return ended

    def answer(self, turn: Turn) -> str | None:
        """Return in words what the last answer took; None where nothing measures."""
        return self._words(turn, self._windows[-1:])

    def chat(self, totals: Turn) -> str | None:
        """Return in words what all answers took, those without a token too; None where nothing measures."""
        return self._words(totals, self._windows)

    def _words(self, turn: Turn, windows: Sequence[Measured]) -> str | None:
        modelled = self._profile.energy_j(turn.airtime_s, turn.draft_s, turn.forward_s)
        ends = EndJoules()
        failure = self._asking.failure
        if failure is not None:
            why = str(failure) or type(failure).__name__
            return f"joules not measured: the energy counters cannot be read any more ({why})"
        if self._meter is not None:
            try:
                read = self._meter.read(windows)
            except (InvalidRequestError, OSError) as error:
                return f"joules not measured: {error}"
            ends = EndJoules(*(_sum([getattr(window, f"{end}_j") for window in read]) for end in _ENDS))
        ends = ends.with_told(turn.measured_basestation_j, turn.llm_forwards)
        if ends.machine_j is not None:
            return f"{ends.machine_j:.1f} J measured, both ends on one machine; {modelled.total_j:.1f} modelled"
        if ends.total_j is not None:
            return (
                f"{ends.total_j:.1f} J measured (device {ends.device_j:.1f}, base station {ends.basestation_j:.1f}); "
                f"{modelled.total_j:.1f} modelled"
            )
        if ends.device_j is not None:
            return f"device {ends.device_j:.1f} J measured, {modelled.device_j:.1f} modelled; base station not measured"
        if ends.basestation_j is None:
            return None
        return f"base station {ends.basestation_j:.1f} J measured, {modelled.basestation_j:.1f} modelled; device not measured"


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
