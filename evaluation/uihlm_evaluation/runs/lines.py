"""Files of JSON lines that only grow. A crash can tear the last line: readers leave it out, writers mend the file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from uihlm_proto.errors import InvalidRequestError

_LOG = logging.getLogger(__name__)


class LineFileError(InvalidRequestError):
    """A line of a file that is not what this program writes."""


def whole_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of the lines that are not blank; a torn last line is left out with a warning.

    Raises:
        LineFileError: if the file is not UTF-8 text.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and not _is_json(line):
                _LOG.warning("%s: line %d is torn (the run was cut off while writing it): left out", path.name, number)
                return
            try:
                text = line.decode().removesuffix("\n")
            except UnicodeDecodeError as error:
                raise LineFileError(f"{path}, line {number}: not UTF-8 text ({error.reason})") from error
            if text.strip():
                yield number, text


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _mend(path: Path) -> None:
    """Make the file end with a whole line, so that the next one does not continue a torn one."""
    if not path.exists():
        return
    content = path.read_bytes()
    head, newline, tail = content.rpartition(b"\n")
    if not tail:
        return
    if _is_json(tail):
        with path.open("ab") as file:
            file.write(b"\n")
        return
    _LOG.warning("%s: cut a torn last line of %d bytes before going on", path.name, len(tail))
    with path.open("r+b") as file:
        file.truncate(len(head) + len(newline))


class LineFile:
    """A file that lines are appended to; what an earlier run wrote stays. A context manager."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, a torn last line mended."""
        _mend(path)
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def close(self) -> None:
        """Close the file; lines held back and not flushed are dropped."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Close the file."""
        self.close()
