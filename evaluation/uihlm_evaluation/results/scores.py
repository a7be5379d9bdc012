"""scores.jsonl: the quality of each answer, so that rows can be compared prompt by prompt without the encoders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from uihlm_evaluation.quality.answers import AnswerScore
from uihlm_evaluation.runs.samples import Sample, SampleFileError
from uihlm_evaluation.whole_files import write_whole

SCORES = "scores.jsonl"

# (row label, prompt index) → score by name; what is null in the file is absent.
Scores = dict[tuple[str, int], dict[str, float]]


def write_scores(path: Path, samples: Sequence[Sample], scores: Sequence[AnswerScore]) -> None:
    """Write one line an answer that did not fail, in place of any file of that name."""
    lines = [
        json.dumps({"policy": sample.policy, "prompt": sample.prompt, **asdict(score)}, ensure_ascii=False)
        for sample, score in zip(samples, scores, strict=True)
        if not sample.failed
    ]
    write_whole(path, "".join(line + "\n" for line in lines))


def read_scores(path: Path) -> Scores:
    """Return the scores of a file, whatever their names.

    Raises:
        SampleFileError: with file and line, if a line is not one of scores.
    """
    scores: Scores = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            values = json.loads(line)
            whose = (str(values.pop("policy")), int(values.pop("prompt")))
            scores[whose] = {name: float(value) for name, value in values.items() if value is not None}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SampleFileError(f"{path}, line {number}: not the scores of an answer ({error!r})") from error
    return scores
