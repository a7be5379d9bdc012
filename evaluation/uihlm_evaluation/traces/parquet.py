"""A trace as a Parquet file, for readers that are not NumPy: one row a token, arrays as lists of one length.

The trace's header and the shapes of the arrays are in the file's metadata, so that it loads back to the same trace.
`held_out` is a column of its own there.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_evaluation.calibration.trace import Trace, TraceError, TraceHeader

_HEADER, _SHAPES, _HELD_OUT = b"uihlm.header", b"uihlm.shapes", "held_out"


def write_parquet(trace: Trace, held_out: npt.NDArray[np.bool_], path: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        TraceError: if pyarrow is not installed.
    """
    arrow = _arrow()
    from pyarrow import parquet

    columns = trace.columns()
    metadata = {
        _HEADER: json.dumps(dataclasses.asdict(trace.header)),
        _SHAPES: json.dumps({name: column.shape[1:] for name, column in columns.items()}),
    }
    arrays = {name: _to_arrow(arrow, column) for name, column in columns.items()}
    table = arrow.table(arrays | {_HELD_OUT: arrow.array(held_out)}).replace_schema_metadata(metadata)
    temporary = path.with_name(path.name + ".new")
    parquet.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


def read_parquet(path: Path) -> Trace:
    """Return the trace in a file; TraceError if it holds none."""
    arrow = _arrow()
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        header = TraceHeader.from_json(table.schema.metadata[_HEADER].decode())
        shapes = json.loads(table.schema.metadata[_SHAPES])
        return Trace(header, **{name: _to_numpy(table[name], shape) for name, shape in shapes.items()})
    except (OSError, KeyError, TypeError, ValueError, arrow.ArrowInvalid) as error:
        raise TraceError(f"{path} is no trace in Parquet ({error}): make one with `uihlm-device trace`") from error


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise TraceError(
            "a pack in Parquet needs pyarrow: install uihlm[eval], or leave the pack in NPZ (--store npz)"
        ) from error
    return pyarrow


def _to_arrow(arrow: Any, column: npt.NDArray[Any]) -> Any:
    flat = arrow.array(column.reshape(-1))
    return flat if column.ndim == 1 else arrow.FixedSizeListArray.from_arrays(flat, math.prod(column.shape[1:]))


def _to_numpy(column: Any, shape: list[int]) -> npt.NDArray[Any]:
    whole = column.combine_chunks()
    flat = whole.flatten() if shape else whole
    array: npt.NDArray[Any] = flat.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    return array
