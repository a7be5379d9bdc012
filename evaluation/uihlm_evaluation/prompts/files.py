"""JSON and JSONL files of prompts in two formats, told apart row by row from their fields.

    Alpaca    {"instruction": "…", "input": "…", "output": "…"}      input may be left out
    task      {"question": "…", "answer": "… #### 42"}               GSM8K's format: the exact answer follows ####

A task's reference is its worked answer without the marks meant for programs: `####`, and GSM8K's calculator notes in
double angle brackets. An answer without `####` is exact as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from uihlm_evaluation.prompts.examples import DatasetError, Example

FINAL = "####"
_ALPACA = 'an object with the strings "instruction", "output" and, if there is one, "input"'
_TASK = 'an object with the string "question" and the string or number "answer"'
_CALCULATION = re.compile(r"<<[^<>]*>>")


def parse(text: str, source: str) -> tuple[Example, ...]:
    """Return the examples of a JSON list, or of JSONL with one object a line (blank lines do not count).

    Raises:
        DatasetError: with `source`, the line or index, what was got and what is expected.
    """
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{source}, line {error.lineno}: not valid JSON ({error.msg}); expected a list"
            ) from error
        return examples(rows, source)
    rows = []
    places = []
    # Not splitlines(): it also breaks at characters that may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{source}, line {number}: not valid JSON ({error.msg}), got {_excerpt(line)}; "
                f"expected a JSON list or one JSON object a line"
            ) from error
        places.append(f"line {number}")
    return examples(rows, source, places)


def examples(rows: Iterable[object], source: str, places: Sequence[str] | None = None) -> tuple[Example, ...]:
    """Return the examples of rows read from `source`; `places` says where each row stands, by default its index.

    Raises:
        DatasetError: with the place, what was got and what is expected.
    """
    made = []
    for index, row in enumerate(rows):
        place = f"{source}, {places[index] if places else f'index {index}'}"
        if not isinstance(row, dict):
            raise DatasetError(f"{place}: got {_excerpt(row)}; expected {_ALPACA}, or {_TASK}")
        if "question" in row and "instruction" not in row:
            made.append(_task(index, row, place))
        else:
            made.append(_instruction(index, row, place))
    if not made:
        raise DatasetError(
            f"{source}: has no examples; expected a JSON list or JSONL of objects, each {_ALPACA}, or {_TASK}"
        )
    return tuple(made)


def _instruction(index: int, row: dict[str, object], place: str) -> Example:
    # A row that begins neither format is not told off for lacking the fields of one of them.
    expected = _ALPACA if "instruction" in row else f"{_ALPACA}, or {_TASK}"
    asked = _string(row, "instruction", place, expected)
    if not asked.strip():
        raise DatasetError(f'{place}: "instruction" is empty; expected {expected}')
    about = _string({"input": "", **row}, "input", place, expected)
    return Example(index, asked, about, _string(row, "output", place, expected))


def _task(index: int, row: dict[str, object], place: str) -> Example:
    asked = _string(row, "question", place, _TASK)
    answer = row.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = json.dumps(answer)
    worked = _CALCULATION.sub("", _string({**row, "answer": answer}, "answer", place, _TASK))
    target = worked.rpartition(FINAL)[2].strip()
    for name, value in (("question", asked), ("answer", target)):
        if not value.strip():
            where = f" after {FINAL}" if name == "answer" and FINAL in worked else ""
            raise DatasetError(f'{place}: "{name}" is empty{where}; expected {_TASK}')
    return Example(index, asked, "", worked.replace(f"{FINAL} ", "").replace(FINAL, "").strip(), target)


def _string(row: dict[str, object], key: str, place: str, expected: str) -> str:
    value = row.get(key)
    if value is None:
        known = sorted(name for name, other in row.items() if other is not None)
        raise DatasetError(f'{place}: "{key}" is missing, got the keys {known}; expected {expected}')
    if not isinstance(value, str):
        raise DatasetError(f'{place}: "{key}" is {_excerpt(value)}, not a string; expected {expected}')
    return value


def _excerpt(value: object, length: int = 60) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= length else text[: length - 1] + "…")
