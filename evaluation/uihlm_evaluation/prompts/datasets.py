"""Data sets by name or path, and the choice of which of their prompts to run.

alpaca       instructions of the hub's Alpaca; where it cannot be had, the shipped set, with a notice
gsm8k        school mathematics in words: the hub's GSM8K, its test split
arithmetic   sums in words written for this project, in five grades, shipped with it
shipped      instructions written for this project
a path       a JSON or JSONL file in one of the two formats of `files`
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from uihlm_evaluation.prompts.examples import Dataset, DatasetError, Example
from uihlm_evaluation.prompts.files import examples, parse
from uihlm_evaluation.prompts.hub import hub_rows

__all__ = ["ALPACA", "ARITHMETIC", "GSM8K", "NAMES", "SHIPPED", "Dataset", "DatasetError", "Example", "load", "select"]

ALPACA, GSM8K, ARITHMETIC, SHIPPED = "alpaca", "gsm8k", "arithmetic", "shipped"
ALPACA_REPOSITORY, ALPACA_REVISION = "tatsu-lab/alpaca", "dce01c9b08f87459cf36a430d809084718273017"
GSM8K_REPOSITORY, GSM8K_REVISION = "openai/gsm8k", "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"
HUB_LIMIT = 100


def load(dataset: str) -> Dataset:
    """Return the data set of that name, or the one in the file of that path.

    `alpaca` and `gsm8k` come from the user's cache or are downloaded.

    Raises:
        DatasetError: if `gsm8k` cannot be had; if a file is missing, empty or not in a known format: it names file,
            line or index, what was got and what is expected.
    """
    if dataset in _LOADERS:
        return _LOADERS[dataset]()
    path = Path(dataset)
    if not path.is_file():
        known = ", ".join(map(repr, NAMES))
        raise DatasetError(f"no data set {dataset!r}: expected {known} or the path of a JSON or JSONL file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text at byte {error.start}; save the file as UTF-8") from error
    return Dataset(parse(text, str(path)), path.name)


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


def _alpaca() -> Dataset:
    obstacle, rows = hub_rows(ALPACA_REPOSITORY, ALPACA_REVISION, "data/*.parquet")
    if rows is None:
        notice = f"{obstacle}: using the examples shipped with uihlm in place of {ALPACA_REPOSITORY}"
        return replace(_shipped(), notice=notice, default_limit=HUB_LIMIT)
    return Dataset(examples(rows, ALPACA_REPOSITORY), ALPACA_REPOSITORY, default_limit=HUB_LIMIT)


def _gsm8k() -> Dataset:
    obstacle, rows = hub_rows(GSM8K_REPOSITORY, GSM8K_REVISION, "main/test*.parquet")
    if rows is None:
        # Unlike instructions, the two tasks are not of a kind: a score on one says nothing of the other.
        raise DatasetError(
            f"{GSM8K}: {obstacle}; put {GSM8K_REPOSITORY} at {GSM8K_REVISION[:7]} into the Hugging Face cache, give the "
            f"path of a copy, or choose --dataset {ARITHMETIC}, the smaller set that ships with uihlm"
        )
    label = f"{GSM8K_REPOSITORY} (main, test)"
    return Dataset(examples(rows, label), label, default_limit=HUB_LIMIT)


def _arithmetic() -> Dataset:
    return Dataset(_package_data("arithmetic.json"), "arithmetic, shipped with uihlm")


def _shipped() -> Dataset:
    return Dataset(_package_data("instructions.json"), "shipped with uihlm")


def _package_data(name: str) -> tuple[Example, ...]:
    file = importlib.resources.files("uihlm_evaluation").joinpath("data", name)
    return parse(file.read_text(encoding="utf-8"), f"the shipped {name}")


_LOADERS: dict[str, Callable[[], Dataset]] = {
    ALPACA: _alpaca,
    GSM8K: _gsm8k,
    ARITHMETIC: _arithmetic,
    SHIPPED: _shipped,
}
NAMES = tuple(_LOADERS)
