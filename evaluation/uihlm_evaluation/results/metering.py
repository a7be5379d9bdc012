"""A wall meter's files laid over the answers of a finished run, by their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uihlm_evaluation.results.outcome import publish
from uihlm_evaluation.results.policy_result import PolicyResult, measured_fields
from uihlm_evaluation.results.saved import SavedRun
from uihlm_evaluation.runs.meters import MeterFacts, MeterFiles, MeterKind, opened_files, read_window
from uihlm_evaluation.runs.runner import SAMPLES
from uihlm_evaluation.runs.samples import Sample, SampleWriter
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.joules.counters import Measured
from uihlm_wireless.joules.wall_meter import WallMeter


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
    # Without a file of its own a base station may have told of its joules itself; what stands there may be a file's, too.
    tells = not facts.shared and facts.basestation is None
    samples = {whose: _laid_over(sample, meters, facts.shared, tells) for whose, sample in run.samples.items()}
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


def _laid_over(sample: Sample, meters: dict[str, WallMeter], shared: bool, tells: bool) -> Sample:
    if sample.failed:
        return sample
    what = f"prompt {sample.prompt} under {sample.policy}"
    if sample.started_unix_s is None or sample.ended_unix_s is None:
        raise InvalidRequestError(f"{what} has no times on the wall clock: run it again with --meter csv")
    read = read_window(Measured(sample.started_unix_s, sample.ended_unix_s), meters, shared, what)
    told = sample.measured_basestation_j if tells else None
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
