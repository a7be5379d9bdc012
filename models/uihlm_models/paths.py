"""Paths as people write them, and files that others may read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def expanded(model: str) -> Path:
    """Return a path whose `~` or `~name` is a home; as it is where nobody of that name has one."""
    with contextlib.suppress(RuntimeError):
        return Path(model).expanduser()
    return Path(model)


def open_to_readers(path: Path) -> None:
    """Give a file the rights of any new one: a temporary file is made for its user alone, and a cache may have several."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
