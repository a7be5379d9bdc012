"""A trace: what both ends know of every drafted token, as columns, in one NPZ file.

One row a token, in order of prompt and position. The column names below are the arrays' names in the file, beside
`header`, a JSON text. What a rule could look at (u, the best logits, attention, the hidden state) stands beside what it
is to foresee (y_d, the rejection probability), so that rules can be fitted and scored without running a model.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from uihlm_device.rules.uncertainty import Estimator
from uihlm_evaluation.calibration.layers import GAMMAS, READOUTS
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.sampling import Sampling

FORMAT = 1
TOP_LOGITS = 64


class TraceError(InvalidRequestError):
    """A trace file that is not one, or that does not fit what is asked of it."""


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """What holds for every row.

    Attributes:
        temperature, top_k, top_p: the sampling contract.
        estimator: of u.
        slm_sha256, llm_sha256: of the weights; None where they were not on the machine.
        gammas, readouts: axes of `counts`.
        format: version of the layout.
    """

    temperature: float
    top_k: int
    top_p: float
    estimator: str
    slm_sha256: str | None = None
    llm_sha256: str | None = None
    gammas: tuple[float, ...] = GAMMAS
    readouts: tuple[str, ...] = tuple(readout.value for readout in READOUTS)
    format: int = FORMAT

    @classmethod
    def of(cls, sampling: Sampling, estimator: Estimator, slm_sha256: str | None, llm_sha256: str | None) -> Self:
        """Return the header of traces made under these settings."""
        return cls(sampling.temperature, sampling.top_k, sampling.top_p, estimator.value, slm_sha256, llm_sha256)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the header that a file holds; TraceError if it is of another format."""
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            got = values.get("format") if isinstance(values, dict) else None
            raise TraceError(f"this is a trace of format {got}, expected {FORMAT}: was it written by another version?")
        return cls(**{**values, "gammas": tuple(values["gammas"]), "readouts": tuple(values["readouts"])})


# Column → type in the file. Half precision is enough to train on, and it is most of the file.
_TYPES: dict[str, str] = {
    "prompt": "<i4",
    "position": "<i4",
    "step": "<i4",
    "draft": "<i4",
    "token": "<i4",
    "rejected": "|b1",
    "x_d": "<f4",
    "y_d": "<f4",
    "reject_prob": "<f4",
    "tv": "<f4",
    "u": "<f4",
    "entropy_nat": "<f4",
    "log_sum": "<f4",
    "top_ids": "<i4",
    "top_logits": "<f4",
    "counts": "<u2",
    "attention_entropy_nat": "<f4",
    "attention_max": "<f4",
    "hidden": "<f2",
}


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """T drafted tokens, all of them uploaded.

    Attributes:
        header: what holds for every row.
        prompt: index in the data set, `[T]`.
        position: absolute, counted from the first prompt token, `[T]`.
        step: decoding step, 0 for the first token of an answer, `[T]`.
        draft: id of the draft d, `[T]`.
        token: id that was committed, `[T]`.
        rejected: whether the draft was rejected, `[T]`.
        x_d, y_d: probabilities of the draft at the two ends, `[T]`.
        reject_prob: 1 − min(1, y_d/x_d), `[T]`.
        tv: total variation between x and y, `[T]`.
        u: uncertainty, `[T]`.
        entropy_nat: entropy of softmax(z), raw logits, in nats, `[T]`.
        log_sum: log Σ exp z, so that `exp(top_logits − log_sum)` are probabilities, `[T]`.
        top_ids, top_logits: the largest raw logits, largest first, `[T, 64]`.
        counts: attention weights above θ_imp, `[T, layer, readout, gamma]`.
        attention_entropy_nat, attention_max: of each layer's head-averaged row, `[T, layer]`.
        hidden: the drafter's state that z came from, `[T, d_model]`; None if it was not kept.
    """

    header: TraceHeader
    prompt: npt.NDArray[np.int32]
    position: npt.NDArray[np.int32]
    step: npt.NDArray[np.int32]
    draft: npt.NDArray[np.int32]
    token: npt.NDArray[np.int32]
    rejected: npt.NDArray[np.bool_]
    x_d: npt.NDArray[np.float32]
    y_d: npt.NDArray[np.float32]
    reject_prob: npt.NDArray[np.float32]
    tv: npt.NDArray[np.float32]
    u: npt.NDArray[np.float32]
    entropy_nat: npt.NDArray[np.float32]
    log_sum: npt.NDArray[np.float32]
    top_ids: npt.NDArray[np.int32]
    top_logits: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint16]
    attention_entropy_nat: npt.NDArray[np.float32]
    attention_max: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        wrong = {name: len(column) for name, column in self.columns().items() if len(column) != len(self.prompt)}
        if wrong:
            raise TraceError(f"columns of a trace differ in length: prompt has {len(self.prompt)} rows, {wrong}")

    def __len__(self) -> int:
        """Return the number of tokens T."""
        return len(self.prompt)

    @property
    def exact_u(self) -> npt.NDArray[np.float64]:
        """u as the device knew it, `[T]`: a sampled one is a multiple of 1/20, which float32 misses by less than 5e-8."""
        return self.u.astype(np.float64).round(7)

    @property
    def n_layer(self) -> int:
        """Layers of the drafter."""
        return int(self.counts.shape[1])

    @classmethod
    def of_rows(cls, header: TraceHeader, rows: Sequence[dict[str, Any]]) -> Self:
        """Return the trace of rows that hold one value a column; TraceError without rows."""
        if not rows:
            raise TraceError("a trace needs at least one token")
        names = [name for name in _TYPES if rows[0].get(name) is not None]
        return cls(header, **{name: np.array([row[name] for row in rows], _TYPES[name]) for name in names})

    def rows(self, which: npt.NDArray[np.bool_]) -> Self:
        """Return the trace of the rows marked `[T]`; TraceError if none is."""
        if not which.any():
            raise TraceError("no token of the trace is asked for")
        return type(self)(self.header, **{name: column[which] for name, column in self.columns().items()})

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns that are there, by name, in the order of the file."""
        columns = {name: getattr(self, name) for name in _TYPES}
        return {name: column for name, column in columns.items() if column is not None}

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        arrays: dict[str, Any] = {
            name: column.astype(_TYPES[name], copy=False) for name, column in self.columns().items()
        }
        temporary = path.with_name(path.name + ".new")
        with temporary.open("wb") as file:
            np.savez_compressed(file, header=json.dumps(dataclasses.asdict(self.header)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def load_trace(path: Path) -> Trace:
    """Return the trace in a file.

    Raises:
        TraceError: if it is no trace, of another format, or incomplete.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = TraceHeader.from_json(str(arrays.pop("header")))
        return Trace(header, **arrays)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError) as error:
        raise TraceError(f"{path} is not a trace ({error}): make one with `uihlm-device calibrate`") from error


def joined(traces: Sequence[Trace]) -> Trace:
    """Return one trace with the rows of all, in order of prompt; TraceError if they were made under other settings."""
    if not traces:
        raise TraceError("there is no trace to join: no prompt has been answered")
    first = traces[0]
    for trace in traces:
        if trace.header != first.header or (trace.hidden is None) != (first.hidden is None):
            raise TraceError(f"traces of different settings cannot be joined: {trace.header} and {first.header}")
    parts = sorted(traces, key=lambda trace: int(trace.prompt[0]))
    names = first.columns()
    return Trace(first.header, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
