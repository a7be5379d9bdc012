"""Prompts and reference answers in the Alpaca format, and the choice of which of them to run.

An example's index is its place in its data set file, whatever is selected: it keys the randomness of its session, so a
prompt meets the same noise alone or among others.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.resources
import importlib.util
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uihlm_evaluation.prompts.hub import HUB_TIMEOUT_S, hub_obstacle
from uihlm_proto.errors import InvalidRequestError

ALPACA = "alpaca"
SHIPPED = "shipped"
ALPACA_REPOSITORY = "tatsu-lab/alpaca"
# Pinned: indices key the randomness, so rows must never move.
ALPACA_REVISION = "dce01c9b08f87459cf36a430d809084718273017"
ALPACA_LIMIT = 100

_EXPECTED = 'an object with the strings "instruction", "output" and, if there is one, "input"'


class DatasetError(InvalidRequestError):
    """A data set that cannot be read, or a selection that it cannot give."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt.

    Attributes:
        index: its place in the data set file, from 0.
        instruction: what is asked.
        input: what it is asked about; may be empty.
        output: the reference answer; empty if there is none to compare with.
    """

    index: int
    instruction: str
    input: str
    output: str

    @property
    def user_turn(self) -> str:
        """The instruction, then, if there is input, a blank line and the input."""
        return f"{self.instruction}\n\n{self.input}" if self.input.strip() else self.instruction


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in order of index.

    Attributes:
        examples: the prompts.
        label: where they come from, in words fit for a results file (no paths).
        notice: what the user must be told about the source; None if it is what was asked for.
        default_limit: how many `select` takes when nothing is asked for; None is all.
    """

    examples: tuple[Example, ...]
    label: str
    notice: str | None = None
    default_limit: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over indices and texts in hexadecimal: two runs with one digest ran the same prompts."""
        rows = [(e.index, e.instruction, e.input, e.output) for e in self.examples]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def load(dataset: str) -> Dataset:
    """Return the data set `alpaca` or `shipped`, or the one in the Alpaca-format JSON or JSONL file of that path.

    `alpaca` is the hub's data set, from the user's cache or downloaded; where neither can be had within a short wait it
    is the set shipped with this package, and the notice says so.

    Raises:
        DatasetError: if the file is missing, empty or not in the format; it names file, line or index, what was got and
            what is expected.
    """
    if dataset == SHIPPED:
        return _shipped(notice=None)
    if dataset == ALPACA:
        obstacle, rows = _alpaca_rows()
        if rows is None:
            return _shipped(notice=f"{obstacle}: using the examples shipped with uihlm in place of {ALPACA_REPOSITORY}")
        return Dataset(_examples(rows, ALPACA_REPOSITORY), ALPACA_REPOSITORY, default_limit=ALPACA_LIMIT)
    path = Path(dataset)
    if not path.is_file():
        raise DatasetError(
            f"no data set {dataset!r}: expected {ALPACA!r}, {SHIPPED!r} or the path of a JSON or JSONL file"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text at byte {error.start}; save the file as UTF-8") from error
    return Dataset(parse(text, str(path)), path.name)


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
        return _examples(rows, source)
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
    return _examples(rows, source, places)


def select(
    dataset: Dataset, limit: int | None = None, offset: int = 0, sample: int | None = None, seed: int = 0
) -> Dataset:
    """Return the part of a data set to run, in order of index.

    First `offset` examples are left out, then `sample` of the rest drawn by `seed`, then the first `limit` kept.
    Without `limit` and `sample` the data set's default limit holds. A draw takes the examples whose hash of (seed,
    index) is smallest, so a larger draw contains a smaller one and no library version changes it.

    Raises:
        DatasetError: for a negative number, a zero limit or sample, a sample larger than what it is drawn from, or
            nothing left.
    """
    if offset < 0:
        raise DatasetError(f"offset must be 0 or more, got {offset}")
    for name, value in (("limit", limit), ("sample", sample)):
        if value is not None and value < 1:
            raise DatasetError(f"{name} must be 1 or more, got {value}")
    chosen = dataset.examples[offset:]
    if not chosen:
        raise DatasetError(
            f"offset {offset} leaves nothing of {dataset.label}, which has {len(dataset.examples)} examples"
        )
    if sample is not None:
        if sample > len(chosen):
            raise DatasetError(f"cannot draw {sample} prompts: {dataset.label} has {len(chosen)} after offset {offset}")
        drawn = sorted(chosen, key=lambda example: _lot(seed, example.index))[:sample]
        chosen = tuple(sorted(drawn, key=lambda example: example.index))
    elif limit is None:
        limit = dataset.default_limit
    return replace(dataset, examples=chosen[:limit])


def _lot(seed: int, index: int) -> bytes:
    message = seed.to_bytes(16, "little", signed=True) + index.to_bytes(8, "little")
    return hashlib.blake2b(message, digest_size=16, person=b"uihlm.sample").digest()


def _excerpt(value: object, length: int = 60) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= length else text[: length - 1] + "…")


def _examples(rows: Iterable[object], source: str, places: Sequence[str] | None = None) -> tuple[Example, ...]:
    examples = []
    for index, row in enumerate(rows):
        place = f"{source}, {places[index] if places else f'index {index}'}"
        if not isinstance(row, dict):
            raise DatasetError(f"{place}: got {_excerpt(row)}; expected {_EXPECTED}")
        texts = []
        for key in ("instruction", "input", "output"):
            value = row.get(key, "" if key == "input" else None)
            if value is None:
                raise DatasetError(
                    f'{place}: "{key}" is missing, got the keys {sorted(map(str, row))}; expected {_EXPECTED}'
                )
            if not isinstance(value, str):
                raise DatasetError(f'{place}: "{key}" is {_excerpt(value)}, not a string; expected {_EXPECTED}')
            texts.append(value)
        if not texts[0].strip():
            raise DatasetError(f'{place}: "instruction" is empty; expected {_EXPECTED}')
        examples.append(Example(index, *texts))
    if not examples:
        raise DatasetError(f"{source}: has no examples; expected a JSON list or JSONL of objects, each {_EXPECTED}")
    return tuple(examples)


def _shipped(notice: str | None) -> Dataset:
    text = importlib.resources.files("uihlm_evaluation").joinpath("data/instructions.json").read_text(encoding="utf-8")
    limit = ALPACA_LIMIT if notice else None
    return Dataset(parse(text, "the shipped set"), "shipped with uihlm", notice, limit)


def _alpaca_rows() -> tuple[str, list[object] | None]:
    """Return (why not, None) or ("", rows) of the hub's data set."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if importlib.util.find_spec("pyarrow") is None:
        return "reading the hub's data set needs the package pyarrow", None

    def snapshot(cached: bool) -> list[Path]:
        folder = snapshot_download(
            ALPACA_REPOSITORY,
            repo_type="dataset",
            revision=ALPACA_REVISION,
            allow_patterns="data/*.parquet",
            local_files_only=cached,
            etag_timeout=HUB_TIMEOUT_S,
        )
        return sorted(Path(folder).glob("data/*.parquet"))

    files: list[Path] = []
    try:
        files = snapshot(cached=True)
    except LocalEntryNotFoundError:
        obstacle = hub_obstacle()
        if obstacle is not None:
            return f"the data set is not in the local cache and {obstacle}", None
    if not files:
        try:
            files = snapshot(cached=False)
        except Exception as error:  # a download dies in many ways: the notice names the one it was
            return f"the data set could not be downloaded ({type(error).__name__})", None
    parquet = importlib.import_module("pyarrow.parquet")
    rows: list[object] = []
    for file in files:
        rows.extend(parquet.read_table(file).to_pylist())
    return "", rows
