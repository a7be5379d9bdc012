"""What measures a run's joules, and what a wall meter's files say of a stretch of time."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.joules.counters import Measured
from uihlm_wireless.joules.wall_file import read_wall_file
from uihlm_wireless.joules.wall_meter import UncoveredError, WallMeter


class MeterKind(enum.Enum):
    """The value of `--meter`."""

    MODEL = "model"
    ZEUS = "zeus"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class MeterFiles:
    """A wall meter's file at either end; None where there is no meter."""

    device: Path | None = None
    basestation: Path | None = None


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """What a run's measured joules come from: `meter` in results.json.

    Attributes:
        kind: `zeus` or `csv`.
        shared: whether device and base station were one machine, so that its joules are both ends'.
        counters: what Zeus counted on the device's machine.
        unread: which of its counters were left out, and why.
        device, basestation: the wall meters' files; None where there was no meter, or none was laid over yet.
        interval_s: the longest usual time between two readings of these.
        idle_s: how long the machine was measured before anything was loaded; None if it was not.
        idle_from_unix_s: when that began.
        idle_device_w, idle_basestation_w, idle_machine_w: mean power over that time, as far as a meter told.
    """

    kind: str
    shared: bool
    counters: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    device: str | None = None
    basestation: str | None = None
    interval_s: float | None = None
    idle_s: float | None = None
    idle_from_unix_s: float | None = None
    idle_device_w: float | None = None
    idle_basestation_w: float | None = None
    idle_machine_w: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object of results.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the facts that an object of results.json holds; InvalidRequestError for another version's."""
        try:
            lists = {name: tuple(values[name]) for name in ("counters", "unread")}
            return cls(**{**values, **lists})
        except (TypeError, KeyError) as error:
            raise InvalidRequestError(
                f"not what a meter is said to be: {error}; written by another version?"
            ) from error

    def rested(self, idle: Measured) -> Self:
        """Return the facts with the power of an idle machine."""

        def watts(joules: float | None) -> float | None:
            return None if joules is None else joules / idle.duration_s

        return replace(
            self,
            idle_s=idle.duration_s,
            idle_from_unix_s=idle.started_unix_s,
            idle_device_w=watts(idle.device_j),
            idle_basestation_w=watts(idle.basestation_j),
            idle_machine_w=watts(idle.machine_j),
        )


def opened_files(files: MeterFiles, shared: bool) -> dict[str, WallMeter]:
    """Return the meters at each end that has one; InvalidRequestError for none, or two of one machine."""
    if shared and files.basestation is not None:
        raise InvalidRequestError(
            "device and base station were one machine in this run: one meter reads both, give its file as --meter-device"
        )
    named = {"device": files.device, "basestation": files.basestation}
    meters = {end: read_wall_file(path) for end, path in named.items() if path is not None}
    if not meters:
        raise InvalidRequestError("no wall meter's file is named: give --meter-device, --meter-basestation or both")
    return meters


def read_window(window: Measured, meters: dict[str, WallMeter], shared: bool, what: str) -> Measured:
    """Return the window with what the meters read in it."""
    try:
        joules = {end: meter.energy_j(window.started_unix_s, window.ended_unix_s) for end, meter in meters.items()}
    except UncoveredError as error:
        raise UncoveredError(f"{what}: {error}") from error
    device_j, basestation_j = joules.get("device"), joules.get("basestation")
    if shared:
        return replace(window, machine_j=device_j)
    return replace(window, device_j=device_j, basestation_j=basestation_j)
