"""What a trace pack says of itself: `manifest.json`.

Settings and seeds, versions, the weights by hash, the prompts of either side, and each column with its type, unit and
meaning: enough to read the pack without this project, and to tell whether two scores are of the same thing.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from uihlm_evaluation.calibration.trace import TraceError
from uihlm_evaluation.whole_files import write_whole

MANIFEST = "manifest.json"
FORMAT = 1


class Store(enum.Enum):
    """In which file the rows lie."""

    NPZ = "npz"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a pack.

    Attributes:
        name: of the column.
        type: as NumPy writes it, little-endian.
        shape: of one row; empty for a number.
        meaning: what it is, with its unit.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What holds for a pack as a whole. Field by field the object in `manifest.json`.

    Attributes:
        store: where the rows lie.
        dataset: the prompts, in words.
        prompts_digest: SHA-256 over their indices and texts.
        seed: of every token, and of the draw of prompts.
        config: every setting of the run, as in `results.json`.
        provenance: versions, commit and machine.
        slm, llm: (label, SHA-256 of the weights or None).
        train, held_out: indices of the prompts of either side.
        held_out_share: that was asked for.
        tokens: rows.
        columns: what they are.
        failed: (prompt, error) of prompts without rows.
        format: version of the layout.
    """

    store: Store
    dataset: str
    prompts_digest: str
    seed: int
    config: dict[str, Any]
    provenance: dict[str, Any]
    slm: tuple[str, str | None]
    llm: tuple[str, str | None]
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    held_out_share: float
    tokens: int
    columns: tuple[Column, ...]
    failed: tuple[tuple[int, str], ...] = ()
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the text of the file."""
        plain = dataclasses.asdict(self) | {"store": self.store.value}
        return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the manifest that a file's text holds; TraceError if it is none, or of another format."""
        try:
            values = json.loads(text)
            if values.get("format") != FORMAT:
                raise TraceError(
                    f"expected a pack of format {FORMAT}, got {values.get('format')!r}: was it written by another version?"
                )
            values["store"] = Store(values["store"])
            values["columns"] = tuple(
                Column(**{**column, "shape": tuple(column["shape"])}) for column in values["columns"]
            )
            for name in ("slm", "llm", "train", "held_out"):
                values[name] = tuple(values[name])
            values["failed"] = tuple((int(prompt), str(error)) for prompt, error in values["failed"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TraceError(f"it cannot be read ({error})") from error

    def save(self, folder: Path) -> None:
        """Write the file into a folder."""
        write_whole(folder / MANIFEST, self.to_json())


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest of a pack; TraceError says what is wrong with a folder that is none."""
    path = folder / MANIFEST
    if not path.is_file():
        raise TraceError(f"there is no trace pack in {folder}: make one with `uihlm-device trace --output {folder}`")
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except (TraceError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} is no manifest of a trace pack: {error}") from error
