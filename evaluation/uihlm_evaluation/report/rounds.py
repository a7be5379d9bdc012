"""The lines of rounds.jsonl as columns: a study has hundreds of thousands, never held as objects."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uihlm_evaluation.runs.runner import RoundLine
from uihlm_evaluation.runs.samples import SampleFileError
from uihlm_proto.errors import InvalidRequestError

_LOG = logging.getLogger(__name__)

_TEXTS = ("policy", "origin")
_WHOLE = ("prompt", "position", "token")
_KEYS = (*_TEXTS, *_WHOLE)
_TRUTHS = ("uploaded",)
NUMBERS = tuple(name for name in RoundLine.__slots__ if name not in _KEYS)
_KNOWN = frozenset(RoundLine.__slots__)

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
            InvalidRequestError: if the package pyarrow is missing.
        """
        table = _table(path)
        rows, row = _codes(table["policy"], labels)
        origins, origin = _codes(table["origin"])
        numbers = {name: _floats(table[name]) for name in NUMBERS}
        prompt, position, token = (table[name].to_numpy() for name in _WHOLE)
        return cls(
            rows, row, origins, origin, prompt, position.astype(np.int32), token.astype(np.int32), numbers
        )  # fmt: skip


def _table(path: Path) -> Any:
    """Return the lines as an Arrow table: all at once, or one by one where that fails, to say which line is to blame."""
    try:
        import pyarrow as arrow
        from pyarrow import json as arrow_json
    except ImportError as error:
        raise InvalidRequestError("the report needs the package pyarrow: pip install 'uihlm[eval]'") from error
    types = {
        **dict.fromkeys(_TEXTS, arrow.string()),
        **dict.fromkeys(_WHOLE, arrow.int64()),
        **dict.fromkeys(NUMBERS, arrow.float64()),
        **dict.fromkeys(_TRUTHS, arrow.bool_()),
    }
    schema = arrow.schema(list(types.items()))
    data = path.read_bytes()
    if not data.strip():
        return schema.empty_table()
    try:
        strict = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        table = arrow_json.read_json(io.BytesIO(data), parse_options=strict)
        # Fewer where a line is blank, more where one holds two objects: the slow way knows what to think of it.
        whole = table.num_rows == data.count(b"\n") and not any(table[name].null_count for name in _KEYS)
    except arrow.ArrowInvalid:
        whole = False
    return table.select(types) if whole else arrow.Table.from_pylist(list(_one_by_one(data, path)), schema)


def _one_by_one(data: bytes, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(io.BytesIO(data), 1):
        values = _values(line, path, number)
        if values is not None:
            yield values


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
    for name in _KEYS:
        wanted = str if name in _TEXTS else int
        if not isinstance(values.get(name), wanted):
            raise SampleFileError(f"{path}, line {number}: not a round ({name} is {values.get(name)!r})")
    for name in NUMBERS:
        if not isinstance(values.get(name), int | float | None):
            raise SampleFileError(f"{path}, line {number}: not a round ({name} is {values[name]!r})")
    return {name: _typed(name, value) for name, value in values.items()}


def _typed(name: str, value: Any) -> Any:
    if name in _TRUTHS:
        return None if value is None else bool(value)
    return value if name in _KEYS or value is None else float(value)


def _codes(column: Any, first: Sequence[str] = ()) -> tuple[tuple[str, ...], Codes]:
    """Return the names that occur, those of `first` before all, and each value's index among them, `[n]`."""
    encoded = column.combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    names = {name: code for code, name in enumerate((*first, *(name for name in found if name not in first)))}
    places = np.array([names[name] for name in found], np.int32)
    return tuple(names), places[encoded.indices.to_numpy()]


def _floats(column: Any) -> Floats:
    """Return a column as floats, NaN where it is null, `[n]`."""
    values: Floats = column.cast("float64").to_numpy()
    return values
