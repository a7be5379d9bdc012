"""What measured a run's joules, and a wall meter's files laid over its answers by their times."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from uihlm_evaluation.results.outcome import publish
from uihlm_evaluation.results.policy_result import PolicyResult, measured_fields
from uihlm_evaluation.results.saved import SavedRun
from uihlm_evaluation.runs.runner import SAMPLES
from uihlm_evaluation.runs.samples import Sample, SampleWriter
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


def lay_over(folder: Path, files: MeterFiles) -> list[PolicyResult]:
    """Put the joules of wall meters into a finished run, in place of any laid over it before, and return its results.

    samples.jsonl, results.json and table.md change in what was measured and in nothing else.

    Raises:
        InvalidRequestError: if the run did not note its times (`--meter csv`), a file cannot be read or does not cover an
            answer, or one machine has two files; the run is left as it was.
    """
    run = SavedRun.read(folder)
    said = run.document.get("meter")
    facts = None if said is None else MeterFacts.from_json(said)
    if facts is None or facts.kind != MeterKind.CSV.value:
        how = "joules were modelled" if facts is None else f"joules were measured by {facts.kind}"
        raise InvalidRequestError(f"{folder} noted no times for a wall meter, its {how}: run it with --meter csv")
    meters = opened_files(files, facts.shared)
    samples = {whose: _laid_over(sample, meters, facts.shared) for whose, sample in run.samples.items()}
    results = []
    for label, result in run.results.items():
        own = [sample for sample in samples.values() if sample.policy == label]
        results.append(replace(result, **measured_fields(own)))
    facts = replace(facts, device=_name(files.device), basestation=_name(files.basestation))
    facts = replace(facts, interval_s=max(meter.interval_s for meter in meters.values()))
    if facts.idle_s is not None and facts.idle_from_unix_s is not None:
        window = Measured(facts.idle_from_unix_s, facts.idle_from_unix_s + facts.idle_s)
        facts = facts.rested(read_window(window, meters, facts.shared, "the idle time before the run"))
    _write(folder, list(samples.values()))
    document = {**run.document, "meter": facts.to_json(), "policies": [result.to_json() for result in results]}
    publish(folder, document, results)
    return results


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)


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


def _laid_over(sample: Sample, meters: dict[str, WallMeter], shared: bool) -> Sample:
    if sample.failed:
        return sample
    what = f"prompt {sample.prompt} under {sample.policy}"
    if sample.started_unix_s is None or sample.ended_unix_s is None:
        raise InvalidRequestError(f"{what} has no times on the wall clock: run it again with --meter csv")
    read = read_window(Measured(sample.started_unix_s, sample.ended_unix_s), meters, shared, what)
    # Without a file of its own, a base station may have told of its joules itself.
    told = None if shared else sample.measured_basestation_j
    return replace(
        sample,
        measured_device_j=read.device_j,
        measured_basestation_j=read.basestation_j if "basestation" in meters else told,
        measured_machine_j=read.machine_j,
    )


def _write(folder: Path, samples: Sequence[Sample]) -> None:
    """Replace the samples file in one step."""
    fresh = folder / (SAMPLES + ".new")
    fresh.unlink(missing_ok=True)
    with SampleWriter(fresh) as file:
        for sample in samples:
            file.append(sample)
    fresh.replace(folder / SAMPLES)


def resolution(run: SavedRun) -> str:
    """Return in words how finely the wall meters of a run read, against how long its answers took."""
    interval_s = MeterFacts.from_json(run.document["meter"]).interval_s or 0.0
    spans_s = [
        sample.ended_unix_s - sample.started_unix_s
        for sample in run.samples.values()
        if sample.started_unix_s is not None and sample.ended_unix_s is not None and not sample.failed
    ]
    short = sum(span_s < interval_s for span_s in spans_s)
    told = f"the wall meter reads every {interval_s:g} s; {len(spans_s)} answers took {sum(spans_s):.1f} s"
    return told if not short else f"{told}, {short} of them less than a reading: trust the sums of a row, not theirs"
