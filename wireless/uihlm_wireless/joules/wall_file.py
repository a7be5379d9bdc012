"""A wall meter's file: comma-separated values, a line that names the columns, then one reading a line.

    time,watts                                timestamp,joules
    2026-05-01T12:00:00.000Z,7.41             1777636800.0,1204.2
    2026-05-01T12:00:01.000Z,7.93             1777636801.0,1212.0

Times are ISO 8601 with an offset, or seconds since 1970; values are watts, or joules (or watt-hours) counted from any start.
Other columns are passed over.
"""

from __future__ import annotations

import csv
import logging
import math
from datetime import datetime
from pathlib import Path

import numpy as np

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.joules.wall_meter import Quantity, WallMeter

TIME_COLUMNS = ("time", "timestamp", "unix_s", "time_s")
# Name of a column, what it holds, and how much one unit of it is.
VALUE_COLUMNS = {
    "watts": (Quantity.WATTS, 1.0),
    "power_w": (Quantity.WATTS, 1.0),
    "joules": (Quantity.JOULES, 1.0),
    "energy_j": (Quantity.JOULES, 1.0),
    "watt_hours": (Quantity.JOULES, 3600.0),
    "energy_wh": (Quantity.JOULES, 3600.0),
}
# Seconds since 1970 are far below, milliseconds far above.
_TOO_LATE_S = 1e11

_LOG = logging.getLogger(__name__)


class WallFileError(InvalidRequestError):
    """A wall meter's file that cannot be read as one; the message has file and line."""


def read_wall_file(path: Path) -> WallMeter:
    """Return the readings of a file; a last line without its newline is being written still, and left out with a warning.

    Raises:
        WallFileError: with file and line, if columns are not named, a reading is malformed, times do not increase, or
            counted joules fall.
        OSError: if it cannot be opened.
    """
    text = _text(path)
    lines = text.split("\n")
    if unfinished := lines.pop():
        _LOG.warning("%s: line %d has no end (is the meter still writing?): left out", path.name, len(lines) + 1)
        if not lines:
            lines = [unfinished]
    rows = [(number, row) for number, row in enumerate(csv.reader(lines), start=1) if any(cell.strip() for cell in row)]
    if not rows:
        raise WallFileError(f"{path}: it is empty: expected a line of column names, such as time,watts, and readings")
    number, names = rows[0]
    time_at, value_at, quantity, unit = _columns([name.strip().lower() for name in names], f"{path}, line {number}")
    times_s: list[float] = []
    values: list[float] = []
    for number, row in rows[1:]:
        where = f"{path}, line {number}"
        if len(row) <= max(time_at, value_at):
            raise WallFileError(f"{where}: expected {len(names)} columns as in the first line, got {len(row)}")
        time_s, value = _time_s(row[time_at].strip(), where), unit * _value(row[value_at].strip(), where)
        if times_s and time_s <= times_s[-1]:
            raise WallFileError(
                f"{where}: its time is {times_s[-1] - time_s:g} s before the line above it: readings must go forward in time"
            )
        if quantity is Quantity.JOULES and values and value < values[-1]:
            raise WallFileError(
                f"{where}: counted energy falls from {values[-1] / unit:g} to {value / unit:g}: the meter was reset; give the "
                "part of the file before or after that"
            )
        times_s.append(time_s)
        values.append(value)
    if len(times_s) < 2:
        raise WallFileError(
            f"{path}: expected at least two readings under the line of column names, got {len(times_s)}"
        )
    return WallMeter(str(path), quantity, np.array(times_s, dtype=np.float64), np.array(values, dtype=np.float64))


def check_columns(path: Path) -> None:
    """Raise WallFileError if the first line of a file does not name the columns; the readings may be written yet."""
    first = next(iter(csv.reader(_text(path).split("\n")[:1])), [])
    if first:
        _columns([name.strip().lower() for name in first], f"{path}, line 1")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WallFileError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _columns(names: list[str], where: str) -> tuple[int, int, Quantity, float]:
    """Return where time and value stand, what the value is, and its unit in watts or joules."""
    times = [index for index, name in enumerate(names) if name in TIME_COLUMNS]
    values = [index for index, name in enumerate(names) if name in VALUE_COLUMNS]
    if len(times) != 1 or len(values) != 1:
        raise WallFileError(
            f"{where}: expected column names with one time ({', '.join(TIME_COLUMNS)}) and one value "
            f"({', '.join(VALUE_COLUMNS)}), separated by commas, got {', '.join(names)}"
        )
    return times[0], values[0], *VALUE_COLUMNS[names[values[0]]]


def _time_s(text: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return _iso_s(text, where)
    if not (math.isfinite(seconds) and 0.0 <= seconds < _TOO_LATE_S):
        raise WallFileError(
            f"{where}: {text} is no time in seconds since 1970 (milliseconds?): divide by 1000, or use ISO 8601"
        )
    return seconds


def _iso_s(text: str, where: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise WallFileError(
            f"{where}: {text!r} is no time: expected ISO 8601 such as 2026-05-01T12:00:00Z, or seconds since 1970"
        ) from error
    if moment.tzinfo is None:
        raise WallFileError(
            f"{where}: {text} does not say its offset from UTC: write Z for UTC or an offset such as +02:00 behind it"
        )
    return moment.timestamp()


def _value(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise WallFileError(f"{where}: {text!r} is no number of watts, joules or watt-hours") from error
    if not (math.isfinite(value) and value >= 0.0):
        raise WallFileError(f"{where}: a reading must be finite and at least 0, got {text}")
    return value
