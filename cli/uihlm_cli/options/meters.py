"""The flags that say what measures joules, and the meter they open: before anything is loaded, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from uihlm_cli.options.flags import F, Values, group, one_of, option
from uihlm_evaluation.runs.meters import MeterFacts, MeterFiles, MeterKind, opened_files, read_window
from uihlm_proto.addresses import target_is_loopback
from uihlm_wireless.joules.counters import EnergyCounters, Measured, WindowMeter
from uihlm_wireless.joules.wall_file import WallFileError, check_columns

# A wall meter may write it while the run goes on, or its file may come afterwards.
_WALL_FILE = click.Path(dir_okay=False, path_type=Path)

meter_files_options: Callable[[F], F] = group(
    option(
        "--meter-device",
        type=_WALL_FILE,
        metavar="FILE",
        help="CSV of the wall meter that feeds the device: time and watts, or counted joules. Where the base station runs "
        "on the same machine, of both.",
    ),
    option(
        "--meter-basestation",
        type=_WALL_FILE,
        metavar="FILE",
        help="CSV of the wall meter that feeds a base station on another machine.",
    ),
)

meter_options: Callable[[F], F] = group(
    one_of(
        "--meter",
        MeterKind.MODEL,
        "Joules: modelled alone; or measured beside that, by this machine's counters (Zeus: NVML, RAPL, Jetson), or by a "
        "wall meter's file, read after the answers.",
    ),
    meter_files_options,
    option(
        "--meter-shared/--meter-apart",
        default=None,
        help="Whether the base station runs on the metered machine, so that its joules are both ends'.  [default: by the "
        "address of --server]",
    ),
    option(
        "--meter-idle-s",
        type=click.FloatRange(0, min_open=True),
        help="First measure the idle machine for so long, seconds.  [default: do not]",
    ),
)


@dataclass(frozen=True, slots=True)
class OpenMeter:
    """A meter that is ready.

    Attributes:
        window: what is asked around every answer.
        facts: what it is.
        files: of a wall meter.
    """

    window: WindowMeter
    facts: MeterFacts
    files: MeterFiles

    def rested(self, idle_s: float | None) -> OpenMeter:
        """Return the meter with the power of the idle machine, measured now for so long."""
        if idle_s is None:
            return self
        click.echo(f"measuring the idle machine for {idle_s:g} s …", err=True)
        end = self.window.begin()
        time.sleep(idle_s)
        facts = self.facts.rested(end())
        known = [watts for watts in (facts.idle_machine_w, facts.idle_device_w) if watts is not None]
        if known:
            click.echo(f"idle, it draws {known[0]:.1f} W", err=True)
        return OpenMeter(self.window, facts, self.files)

    @property
    def reads_files(self) -> bool:
        """Whether a wall meter's file has the joules, and not the windows."""
        return self.facts.kind == MeterKind.CSV.value

    def read(self, windows: Sequence[Measured]) -> Sequence[Measured]:
        """Return windows with their joules: by counters they have them, a wall meter's file is read as far as it has come.

        Raises:
            UncoveredError: if the file does not reach over one of them.
            InvalidRequestError: if it cannot be read as one.
            OSError: if it cannot be opened.
        """
        if not self.reads_files:
            return windows
        # Opened anew each time: the meter goes on writing.
        files = opened_files(self.files, self.facts.shared)
        return [read_window(window, files, self.facts.shared, "an answer") for window in windows]


def open_meter(values: Values) -> OpenMeter | None:
    """Return the meter that the flags ask for, None where joules are modelled alone; what it reads goes to stderr.

    Raises:
        click.BadParameter: if there is nothing to read on this machine, or flags exclude each other.
    """
    kind = MeterKind(values["meter"])
    files = MeterFiles(values["meter_device"], values["meter_basestation"])
    _check(kind, files, values)
    if kind is MeterKind.MODEL:
        return None
    here = values["server"] is None or target_is_loopback(values["server"])
    shared = here if values["meter_shared"] is None else bool(values["meter_shared"])
    if kind is MeterKind.CSV:
        _check_files(files, shared)
        return OpenMeter(WindowMeter(None, shared), MeterFacts(kind.value, shared), files)
    counters, domains, unread = zeus_counters()
    said(domains, unread, "device and base station together" if shared else "the device")
    return OpenMeter(WindowMeter(counters, shared), MeterFacts(kind.value, shared, domains, unread), files)


def zeus_counters() -> tuple[EnergyCounters, tuple[str, ...], tuple[str, ...]]:
    """Return this machine's counters, their names, and which are left out and why; click.BadParameter without any."""
    from uihlm_wireless.joules.zeus_counters import MeterError, ZeusCounters

    try:
        counters = ZeusCounters()
    except MeterError as error:
        raise click.BadParameter(str(error), param_hint="--meter") from error
    return counters, tuple(counters.domains), tuple(counters.unread)


def said(domains: tuple[str, ...], unread: tuple[str, ...], whose: str) -> None:
    """Say on stderr what is measured, and what is not."""
    click.echo(f"measuring the joules of {whose}: {', '.join(domains)}", err=True)
    for reason in unread:
        click.echo(f"note: left out of the measured joules: {reason} (docs/joules.md)", err=True)


def _check(kind: MeterKind, files: MeterFiles, values: Values) -> None:
    flag, problem = "--meter", None
    named = [name for name, path in (("device", files.device), ("basestation", files.basestation)) if path is not None]
    if kind is not MeterKind.CSV and named:
        flag, problem = f"--meter-{named[0]}", "is a wall meter's file: give --meter csv with it"
    elif kind is MeterKind.CSV and not named:
        problem = "csv needs the wall meter's file: give --meter-device FILE, --meter-basestation FILE or both"
    elif kind is MeterKind.MODEL and values["meter_idle_s"] is not None:
        flag, problem = "--meter-idle-s", "there is no meter to read: give --meter zeus or --meter csv"
    if problem is not None:
        raise click.BadParameter(problem, param_hint=flag)


def _check_files(files: MeterFiles, shared: bool) -> None:
    """Refuse what could not be read at the end either."""
    if shared and files.basestation is not None:
        raise click.BadParameter(
            "the base station runs on the device's machine, and one meter reads both: give its file as --meter-device "
            "(--meter-apart says that it is another machine)",
            param_hint="--meter-basestation",
        )
    for flag, path in (("--meter-device", files.device), ("--meter-basestation", files.basestation)):
        if path is None:
            continue
        if not path.exists():
            click.echo(f"note: {path} is not there yet: it is read after the answers", err=True)
            continue
        try:
            check_columns(path)
        except WallFileError as error:
            raise click.BadParameter(str(error), param_hint=flag) from error
