"""A saved run read back answer by answer, with the token lines of each as they were written."""

from __future__ import annotations

import itertools
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uihlm_device.tokens import Origin
from uihlm_evaluation.results.outcome import RESULTS
from uihlm_evaluation.results.policy_result import PolicyResult
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.lines import whole_lines
from uihlm_evaluation.runs.runner import ROUNDS, RUN, SAMPLES, RoundLine
from uihlm_evaluation.runs.samples import Sample, SampleFileError, read_samples
from uihlm_proto.errors import InvalidRequestError

# Row label and prompt index: what names an answer.
Whose = tuple[str, int]

_HINTS = typing.get_type_hints(RoundLine)
# What a line leaves out is None; see `RoundWriter`.
_ABSENT = {name: None for name, hint in _HINTS.items() if isinstance(hint, types.UnionType)}
_REQUIRED = _HINTS.keys() - _ABSENT.keys()


@dataclass(frozen=True, slots=True)
class SavedRun:
    """The folder of a finished `eval` or `sweep`.

    Attributes:
        path: the folder.
        config: its settings, with every row that was run.
        asked: its settings as run.json has them: a sweep adds its controls later.
        prompts: hash of its prompts.
        vocabulary_size: V of the pair.
        document: results.json as it stands.
        results: one a row, by its label.
        samples: one an answer, in the order of the file.
        weights: hashes of its models, by role, as far as they were known.
    """

    path: Path
    config: RunConfig
    asked: RunConfig
    prompts: str
    vocabulary_size: int
    document: dict[str, Any]
    results: dict[str, PolicyResult]
    samples: dict[Whose, Sample]
    weights: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> SavedRun:
        """Read everything but the token lines.

        Raises:
            InvalidRequestError: if it is no finished run, is of another version, or its files do not fit together.
        """
        header = _object(path, RUN, ("config", "prompts"))
        document = _object(path, RESULTS, ("config", "dataset", "policies", "provenance", "vocabulary_size"))
        config, asked = RunConfig.from_dict(document["config"]), RunConfig.from_dict(header["config"])
        if replace(asked, grid=config.grid) != config:
            raise InvalidRequestError(
                f"{path}: {RUN} and {RESULTS} have other settings: its files are of different runs"
            )
        results = {result.row: result for result in map(PolicyResult.from_json, document["policies"])}
        samples = {(sample.policy, sample.prompt): sample for sample in read_samples(_file(path, SAMPLES))}
        labels = {row.label for row in config.rows}
        if not labels == results.keys() == {label for label, _ in samples}:
            raise InvalidRequestError(
                f"{path}: {RUN}, {RESULTS} and {SAMPLES} are not of the same rows: its files are of different runs"
            )
        v, prompts, weights = document["vocabulary_size"], header["prompts"], header.get("weights", {})
        return cls(path, config, asked, prompts, v, document, results, samples, weights)

    def answers(self) -> Iterator[tuple[Whose, list[RoundLine]]]:
        """Yield the token lines of each answer that has any, in the order of the file.

        Raises:
            InvalidRequestError: with file and line, if a line is not a round; or if an answer has not as many lines as
                its sample has tokens.
        """
        path = _file(self.path, ROUNDS)
        rounds = (_round(path, number, text) for number, text in whole_lines(path))
        untold = {whose: sample.tokens for whose, sample in self.samples.items() if sample.tokens}
        for whose, group in itertools.groupby(rounds, key=lambda line: (line.policy, line.prompt)):
            lines = list(group)
            if untold.pop(whose, 0) != len(lines):
                raise _unfit(self.path, whose)
            yield whose, lines
        if untold:
            raise _unfit(self.path, next(iter(untold)))


def _unfit(path: Path, whose: Whose) -> InvalidRequestError:
    label, prompt = whose
    return InvalidRequestError(
        f"{path}: {ROUNDS} and {SAMPLES} disagree on the tokens of prompt {prompt} under {label}: its files are of "
        "different runs"
    )


def _file(path: Path, name: str) -> Path:
    if not (path / name).is_file():
        raise InvalidRequestError(f"{path} has no {name}: copy the whole folder of the run")
    return path / name


def _object(path: Path, name: str, fields: tuple[str, ...]) -> dict[str, Any]:
    if not (path / RUN).is_file():
        raise InvalidRequestError(f"{path} holds no run: give the --output of an eval or a sweep")
    if not (path / name).is_file():
        raise InvalidRequestError(f"{path} has no {name}: the run has not finished; go on with it by --resume")
    try:
        values = json.loads((path / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequestError(f"{path / name} is not valid JSON ({error}): was it edited?") from error
    if not isinstance(values, dict) or (missing := [field for field in fields if field not in values]):
        lacking = "an object" if not isinstance(values, dict) else ", ".join(missing)
        raise InvalidRequestError(
            f"{path / name} lacks {lacking}: written by another version? Run it again with this one"
        )
    return values


def _round(path: Path, number: int, text: str) -> RoundLine:
    try:
        values = json.loads(text)
        missing = _REQUIRED - values.keys()
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}; was it written by another version?")
        return RoundLine(**{**_ABSENT, **values, "origin": Origin(values["origin"])})
    except (ValueError, TypeError, AttributeError) as error:
        raise SampleFileError(f"{path}, line {number}: not a round ({error})") from error
