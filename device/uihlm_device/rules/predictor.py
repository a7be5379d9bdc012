"""A learned guess at how likely a draft is to be rejected, from what the drafter knows of it.

    β̂ = σ(c + w·h + w_u·u + w_uu·u² + w_x·x_d)

h is the drafter's last hidden state, the one its logits come from. Trained and judged by `uihlm-device calibrate --learn`; the
file holds one number a hidden unit, a few kB.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from uihlm_device.record import Float32Array
from uihlm_proto.errors import InvalidRequestError

FORMAT = 1

FloatArray = npt.NDArray[np.float64]


class PredictorError(InvalidRequestError):
    """Weights that cannot be read, or that belong to another drafter."""


@dataclass(frozen=True, slots=True)
class LearnedFile:
    """Where the weights of policy `learned` lie, and which they are.

    Attributes:
        path: of the file.
        sha256: of its content, so that the settings of a run name the very weights.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the file at a path; PredictorError if it holds no weights."""
        content = _content(path)
        Predictor.from_bytes(content, path)
        return cls(str(path), hashlib.sha256(content).hexdigest())

    def load(self) -> Predictor:
        """Return the weights; PredictorError if the file has changed."""
        content = _content(Path(self.path))
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != self.sha256:
            raise PredictorError(
                f"{self.path} holds other weights than this run's settings name (sha256 {sha256[:12]}…, expected "
                f"{self.sha256[:12]}…): bring those back, or start a new run"
            )
        return Predictor.from_bytes(content, Path(self.path))


@dataclass(frozen=True, slots=True)
class Origin:
    """What a predictor was trained on.

    Attributes:
        slm_sha256, llm_sha256: of the pair; None where they were on another machine.
        temperature: T_s.
        estimator: of u.
    """

    slm_sha256: str | None
    llm_sha256: str | None
    temperature: float
    estimator: str


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """The weights.

    Attributes:
        hidden: w, `[d_model]`.
        scalars: (w_u, w_uu, w_x).
        intercept: c.
        threshold: upload above this β̂.
        origin: what they were trained on.
    """

    hidden: Float32Array
    scalars: tuple[float, float, float]
    intercept: float
    threshold: float
    origin: Origin

    def reject_prob(self, hidden: npt.NDArray[np.floating[Any]], u: Any, x_d: Any) -> FloatArray:
        """Return β̂ of tokens.

        Args:
            hidden: `[..., d_model]`.
            u, x_d: `[...]`.

        Raises:
            PredictorError: if the hidden state is of another width.
        """
        if hidden.shape[-1] != len(self.hidden):
            raise PredictorError(
                f"the weights are for a hidden state of {len(self.hidden)} numbers, this drafter's has "
                f"{hidden.shape[-1]}: run `uihlm-device calibrate --learn` on this pair"
            )
        w_u, w_uu, w_x = self.scalars
        z = self.intercept + hidden.astype(np.float64) @ self.hidden.astype(np.float64)
        z = z + w_u * u + w_uu * np.square(u) + w_x * x_d
        probability: FloatArray = 1.0 / (1.0 + np.exp(-z))
        return probability

    def to_bytes(self) -> bytes:
        """Return the content of a file; the same weights give the same bytes."""
        header = {
            "format": FORMAT,
            "scalars": self.scalars,
            "intercept": self.intercept,
            "threshold": self.threshold,
            "origin": {name: getattr(self.origin, name) for name in Origin.__slots__},
        }
        file = io.BytesIO()
        np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), hidden=self.hidden)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, path: Path) -> Self:
        """Return the weights that a file's content holds; PredictorError, naming the path, if it holds none."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                header, hidden = json.loads(arrays["header"].tobytes()), arrays["hidden"]
            if header["format"] != FORMAT or hidden.ndim != 1 or not np.isfinite(hidden).all():
                raise PredictorError(f"{path} is of another format: was it written by another version?")
            w_u, w_uu, w_x = map(float, header["scalars"])
            numbers = (float(header["intercept"]), float(header["threshold"]))
            return cls(hidden.astype(np.float32), (w_u, w_uu, w_x), *numbers, Origin(**header["origin"]))
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError) as error:
            raise PredictorError(
                f"{path} holds no weights of a predictor ({error}): make them with `uihlm-device calibrate --learn`"
            ) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PredictorError(f"cannot read {path}: {error.strerror}") from error
