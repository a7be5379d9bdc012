"""A run's folder read back: settings and results, one sample an answer, and the rounds as columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uihlm_evaluation.report.rounds import Rounds
from uihlm_evaluation.results.outcome import RESULTS
from uihlm_evaluation.results.policy_result import PolicyResult
from uihlm_evaluation.runs.runner import ROUNDS, SAMPLES
from uihlm_evaluation.runs.samples import Sample, read_samples
from uihlm_proto.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A finished run.

    Attributes:
        path: its folder.
        document: results.json as it stands.
        results: one a row, in the order of the table.
        samples: one a prompt and row, failed ones included.
        rounds: one line a token; its labels are those of `results`, in their order.
    """

    path: Path
    document: dict[str, Any]
    results: tuple[PolicyResult, ...]
    samples: tuple[Sample, ...]
    rounds: Rounds

    @property
    def vocabulary_size(self) -> int:
        """V of the pair."""
        return int(self.document["vocabulary_size"])

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Read the folder that `eval` or `sweep` wrote.

        Raises:
            InvalidRequestError: if it is no finished run, or its files are of another version or do not fit together.
        """
        document = _results(path)
        try:
            results = tuple(PolicyResult.from_json(values) for values in document["policies"])
        except (InvalidRequestError, TypeError, AttributeError) as error:
            raise InvalidRequestError(f"{path / RESULTS}: {error}") from error
        labels = tuple(result.row for result in results)
        for name in (SAMPLES, ROUNDS):
            if not (path / name).is_file():
                raise InvalidRequestError(f"{path} has {RESULTS} but no {name}: copy the whole folder of the run")
        samples = tuple(read_samples(path / SAMPLES))
        rounds = Rounds.read(path / ROUNDS, labels)
        strangers = sorted({*rounds.labels, *(sample.policy for sample in samples)} - set(labels))
        if strangers:
            raise InvalidRequestError(
                f"{path}: lines of {', '.join(strangers)}, which {RESULTS} does not know: its files are of different runs"
            )
        return cls(path, document, results, samples, rounds)


def _results(path: Path) -> dict[str, Any]:
    file = path / RESULTS
    if not path.is_dir():
        raise InvalidRequestError(f"no folder {path}: give the --output of an eval or a sweep")
    if not file.is_file():
        started = (path / SAMPLES).exists()
        hint = (
            "the run has not finished: go on with it by --resume"
            if started
            else "give the --output of an eval or a sweep"
        )
        raise InvalidRequestError(f"{path} has no {RESULTS}: {hint}")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequestError(f"{file} is not valid JSON ({error}): finish the run again with --resume") from error
    missing = {"config", "dataset", "models", "provenance", "policies", "vocabulary_size"} - set(
        document if isinstance(document, dict) else ()
    )
    if missing:
        raise InvalidRequestError(f"{file} lacks {', '.join(sorted(missing))}: written by another version?")
    return dict(document)
