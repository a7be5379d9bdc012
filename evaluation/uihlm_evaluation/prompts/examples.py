"""One prompt with its reference answer, and a set of them.

An example's index is its place in its data set file, whatever is selected: it keys the randomness of its session, so a
prompt meets the same noise alone or among others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from uihlm_proto.errors import InvalidRequestError


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
        target: the exact answer that is right; None where many answers are.
    """

    index: int
    instruction: str
    input: str
    output: str
    target: str | None = None

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
        # A set without targets keeps the digest it had before there were any.
        rows = [
            (e.index, e.instruction, e.input, e.output, *(() if e.target is None else (e.target,)))
            for e in self.examples
        ]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()
