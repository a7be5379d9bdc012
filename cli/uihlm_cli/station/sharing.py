"""The flags that say how one base station is shared: places, memory, chunks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from uihlm_basestation.batcher import DEFAULT_CHUNK
from uihlm_basestation.engines.slotted import DEFAULT_CONTEXT
from uihlm_basestation.serving import DEFAULT_SESSIONS, Serving
from uihlm_cli.options.flags import F, Values, group, option

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


class Size(click.ParamType[int]):
    """A number of bytes: `512MiB`, `1.5GB`, `1048576`."""

    name = "size"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None or found[2].upper() not in _UNITS:
            self.fail(f"{value!r} is no size: write 512MiB, 1.5GB or a number of bytes", parameter, context)
        return int(float(found[1]) * _UNITS[found[2].upper()])


sharing_options: Callable[[F], F] = group(
    option(
        "--max-sessions",
        type=click.IntRange(1),
        default=DEFAULT_SESSIONS,
        help="Devices served at once; one more is told when to come back.",
    ),
    option("--max-context", type=click.IntRange(1), default=DEFAULT_CONTEXT, help="Positions a session may hold."),
    option(
        "--kv-memory",
        type=Size(),
        help="Most memory for key-value caches, as 512MiB or 2GB: a session beyond it loses its cache, which is made anew "
        "when it next asks.  [default: a cache for every session]",
    ),
    option(
        "--prefill-chunk",
        type=click.IntRange(1),
        default=DEFAULT_CHUNK,
        help="Positions of prompts in one forward that other sessions may wait for.",
    ),
    option(
        "--idle-timeout",
        type=click.FloatRange(0),
        default=0.0,
        help="Close a session that is silent for so long, seconds; 0 lets it stay.",
    ),
)


def serving(values: Values) -> Serving:
    """Return what the flags say of batches and silence."""
    return Serving(chunk=values["prefill_chunk"], idle_s=values["idle_timeout"] or None)
