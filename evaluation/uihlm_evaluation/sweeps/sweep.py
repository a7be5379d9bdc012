"""A sweep: every row of a grid over every prompt, controls at matched upload rates after them, in one folder.

    run.json, compute_times.json, samples.jsonl, rounds.jsonl     as an eval's; resumable at the prompt

The rows of a prompt run one after another in one worker, so that what they share is done once; prompts run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.report.rounds import Rounds
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.runner import ROUNDS, SAMPLES, Progress, RoundLine, prepare
from uihlm_evaluation.runs.samples import RoundWriter, Sample, SampleWriter
from uihlm_evaluation.sweeps.compute_times import ComputeTimes
from uihlm_evaluation.sweeps.controls import CONTROLS, matched_controls
from uihlm_evaluation.sweeps.grid import in_walking_order
from uihlm_evaluation.sweeps.side_by_side import OpenWorker, Task, answers
from uihlm_proto.errors import InvalidRequestError

COMPUTE_TIMES = "compute_times.json"


@dataclass(frozen=True, slots=True)
class Machinery:
    """How a sweep gets its work done.

    Attributes:
        measure: measures compute times alone; asked once, for a sweep that has none.
        worker: given the rows and the times, what opens one worker.
        jobs: prompts at once.
    """

    measure: Callable[[], ComputeTimes]
    worker: Callable[[Sequence[Row], ComputeTimes], OpenWorker]
    jobs: int


def sweep(
    config: RunConfig,
    dataset: Dataset,
    output: Path,
    *,
    resume: bool,
    controls: bool,
    machinery: Machinery,
    on_progress: Callable[[Progress], None],
    weights: Mapping[str, str] | None = None,
) -> tuple[RunConfig, list[Sample]]:
    """Run the grid of `config`, then its controls; return the settings with every row, and all samples.

    Raises:
        InvalidRequestError: if `output` holds another run, or this one and `resume` is off.
        UihlmError: what ended a worker; what was done so far is on disk.
    """
    done = prepare(output, config, dataset.digest, resume, weights)
    if not controls and {sample.policy for sample in done} - {row.label for row in config.rows}:
        raise InvalidRequestError(f"{output} holds controls already: go on with --controls, or name another --output")
    path = output / COMPUTE_TIMES
    if path.exists():
        times = ComputeTimes.read(path)
    else:
        times = machinery.measure()
        times.write(path)
    kept = {row.policy for row in config.rows}
    expected = len(CONTROLS) - len(kept & set(CONTROLS)) if controls else 0
    total = len(dataset.examples) * (len(config.rows) + expected)
    done = _run(config.rows, dataset.examples, done, output, times, machinery, total, on_progress)
    if controls:
        rounds = Rounds.read(output / ROUNDS, [row.label for row in config.rows])
        added = matched_controls(config.rows, rounds)
        total = len(dataset.examples) * (len(config.rows) + len(added))
        done = _run(added, dataset.examples, done, output, times, machinery, total, on_progress)
        config = replace(config, grid=(*config.rows, *added))
    order = {example.index: place for place, example in enumerate(dataset.examples)}
    return config, sorted(done, key=lambda sample: order[sample.prompt])


def _run(
    rows: Sequence[Row],
    examples: Sequence[Example],
    done: list[Sample],
    output: Path,
    times: ComputeTimes,
    machinery: Machinery,
    total: int,
    on_progress: Callable[[Progress], None],
) -> list[Sample]:
    """Answer what is not done yet and return all samples."""
    finished = {(sample.policy, sample.prompt) for sample in done}
    walk = [row.label for row in in_walking_order(rows)]
    tasks = [
        Task(example, labels)
        for example in examples
        if (labels := tuple(label for label in walk if (label, example.index) not in finished))
    ]
    if not tasks:
        return done
    done = list(done)
    with SampleWriter(output / SAMPLES) as samples, RoundWriter(output / ROUNDS) as rounds:
        for answered in answers(machinery.worker(rows, times), tasks, machinery.jobs):
            for label, sample, records in answered:
                for record in records:
                    rounds.append(RoundLine.of(label, sample.prompt, record))
                rounds.flush()
                samples.append(sample)
                done.append(sample)
                on_progress(Progress(len(done), total, sample))
    return done
