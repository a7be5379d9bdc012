"""Rows of known distributions, for rules that are given the rows of a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uihlm_proto.sampling import Row, Sampling, race


class Known(Row):
    """A row whose distribution is p `[V]` to the last bit, zeros included."""

    p: npt.NDArray[np.float64]

    def __init__(self, p: npt.ArrayLike) -> None:
        known = np.asarray(p, np.float64)
        super().__init__(known.astype(np.float32), Sampling())
        object.__setattr__(self, "p", known)  # a row is frozen

    def distribution(self) -> npt.NDArray[np.float64]:
        return self.p

    def race(self, words: npt.NDArray[np.uint64]) -> int:
        return race(self.p, words)

    def probability(self, token: int) -> float:
        return float(self.p[token])
