"""A run's folder read back: settings and results, one sample an answer, and the rounds as columns.

A study has hundreds of thousands of token lines: they are read one by one into arrays, never held as objects.
"""

from __future__ import annotations

import array
import itertools
import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uihlm_evaluation.runs.outcome import RESULTS
from uihlm_evaluation.runs.results import PolicyResult
from uihlm_evaluation.runs.runner import ROUNDS, SAMPLES, RoundLine
from uihlm_evaluation.runs.samples import Sample, SampleFileError, read_samples
from uihlm_proto.errors import InvalidRequestError

_LOG = logging.getLogger(__name__)

_KEYS = ("policy", "prompt", "position", "token", "origin")
NUMBERS = tuple(name for name in RoundLine.__slots__ if name not in _KEYS)
_KNOWN = frozenset(RoundLine.__slots__)
_BLOCK_LINES = 1000

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The lines of rounds.jsonl as columns of equal length n.

    Attributes:
        labels: labels of the rows.
        row: index into `labels`, `[n]`.
        origins: names of the origins that occur.
        origin: index into `origins`, `[n]`.
        prompt: the prompt's index in its data set, `[n]`.
        position: absolute position of the token, `[n]`.
        token: its id, `[n]`.
    """

    labels: tuple[str, ...]
    row: Codes
    origins: tuple[str, ...]
    origin: Codes
    prompt: NDArray[np.int64]
    position: Codes
    token: Codes
    _numbers: dict[str, Floats]

    def __len__(self) -> int:
        """Return n."""
        return len(self.row)

    def column(self, name: str) -> Floats:
        """Return a numeric field of `RoundLine`, `[n]`, NaN where a line lacks it; truth is 1, falsehood 0.

        Raises:
            InvalidRequestError: if there is no numeric field of that name.
        """
        if name not in self._numbers:
            raise InvalidRequestError(f"rounds have no column {name!r}: choose from {', '.join(self._numbers)}")
        return self._numbers[name]

    @classmethod
    def read(cls, path: Path, labels: Sequence[str] = ()) -> Rounds:
        """Return the rounds of a file; a torn last line is left out with a warning.

        Args:
            path: rounds.jsonl.
            labels: row labels that get the first codes, in this order; others follow as they occur.

        Raises:
            SampleFileError: with file and line, if any other line is not a round.
        """
        rows = {label: code for code, label in enumerate(labels)}
        origins: dict[str, int] = {}
        row, origin, position, token = (array.array("i") for _ in range(4))
        prompt = array.array("q")
        numbers = {name: array.array("d") for name in NUMBERS}
        absent = math.nan
        for first, block in _blocks(path):
            try:
                row.extend([rows.setdefault(values["policy"], len(rows)) for values in block])
                origin.extend([origins.setdefault(values["origin"], len(origins)) for values in block])
                prompt.extend([values["prompt"] for values in block])
                position.extend([values["position"] for values in block])
                token.extend([values["token"] for values in block])
                for name, column in numbers.items():
                    column.extend([values.get(name, absent) for values in block])
            except (KeyError, TypeError, OverflowError) as error:
                span = f"lines {first}–{first + len(block) - 1}"
                raise SampleFileError(f"{path}, one of {span}: not a round ({error!r})") from error
        return cls(
            tuple(rows),
            np.frombuffer(row, np.int32),
            tuple(origins),
            np.frombuffer(origin, np.int32),
            np.frombuffer(prompt, np.int64),
            np.frombuffer(position, np.int32),
            np.frombuffer(token, np.int32),
            {name: np.frombuffer(column, np.float64) for name, column in numbers.items()},
        )


def _blocks(path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield (number of its first line, lines) of blocks of a rounds file: a column at a time is the quicker way to read."""
    with path.open("rb") as file:
        first = 1
        while lines := list(itertools.islice(file, _BLOCK_LINES)):
            yield first, _at_once(lines) or _one_by_one(lines, path, first)
            first += len(lines)


def _at_once(lines: list[bytes]) -> list[dict[str, Any]] | None:
    """Return the objects of lines read as one list; None if any line needs a closer look."""
    import orjson

    try:
        block = orjson.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        return None
    # Two objects in a line would be two of the list.
    if len(block) != len(lines) or not all(type(values) is dict for values in block):
        return None
    return block if _KNOWN.issuperset(itertools.chain.from_iterable(block)) else None


def _one_by_one(lines: list[bytes], path: Path, first: int) -> list[dict[str, Any]]:
    return [values for number, line in enumerate(lines, first) if (values := _values(line, path, number)) is not None]


def _values(line: bytes, path: Path, number: int) -> dict[str, Any] | None:
    """Return the object of a line; None for a blank or torn one."""
    try:
        values = json.loads(line.decode())
    except ValueError as error:
        if line.endswith(b"\n"):
            if not line.strip():
                return None
            raise SampleFileError(f"{path}, line {number}: not valid JSON ({error})") from error
        _LOG.warning("%s: line %d is torn (the run was cut off while writing it): left out", path.name, number)
        return None
    if not isinstance(values, dict):
        raise SampleFileError(f"{path}, line {number}: expected a JSON object, got {type(values).__name__}")
    if not values.keys() <= _KNOWN:
        unknown = ", ".join(sorted(values.keys() - _KNOWN))
        raise SampleFileError(f"{path}, line {number}: a round has the unknown {unknown}: written by another version?")
    return values


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
