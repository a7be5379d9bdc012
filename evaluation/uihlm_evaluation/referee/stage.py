"""The two models that a decode loop under test is handed: small, known, and different after every token.

    x(ids) = X[last id],  y(ids) = Y[last id]        rows of twelve tokens, permuted anew for each last id

TV(x, y) is 0.46 after every token, so a wrong rule shows in few tokens; a loop that looks at the wrong position shows
because the rows differ. Every y is at least 0.03, so that each cell of a test of some thousand tokens is well filled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float64]
# ids of the whole text so far → probabilities of the next one, [V], which sum to 1
Model = Callable[[Sequence[int]], FloatArray]

VOCABULARY_SIZE = 12

# No two values are equal, so that no rule hangs on how a tie is rounded.
_X = np.array([0.022, 0.195, 0.018, 0.088, 0.021, 0.318, 0.104, 0.097, 0.019, 0.024, 0.016, 0.078])
_Y = np.array([0.203, 0.312, 0.081, 0.032, 0.033, 0.031, 0.034, 0.148, 0.0285, 0.030, 0.038, 0.0295])

# In place of 0, where a law divides by x.
_LEAST = 1e-12


class RefereeError(InvalidRequestError):
    """A decode loop that breaks the referee's contract, so that nothing can be said of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A pair of known models.

    Attributes:
        x, y: distributions of the next token by the last one, `[last, next]`.
    """

    x: FloatArray
    y: FloatArray

    @classmethod
    def of_seed(cls, seed: int = 0) -> Self:
        """Return the pair whose rows a seed permutes."""
        generator = np.random.default_rng([seed % 2**64, 0])
        orders = [generator.permutation(VOCABULARY_SIZE) for _ in range(VOCABULARY_SIZE)]
        return cls(np.stack([_X[order] for order in orders]), np.stack([_Y[order] for order in orders]))

    def drafted_from(self, shape: Callable[[FloatArray], FloatArray]) -> Self:
        """Return the pair whose x is what a loop makes of x before it draws; zeros become next to nothing."""
        rows = np.maximum(np.stack([shape(row.copy()) for row in self.x]), _LEAST)
        return replace(self, x=rows / rows.sum(axis=1, keepdims=True))

    def drafter(self) -> Model:
        """Return x as a loop is handed it."""
        return _model(self.x)

    def target(self) -> Model:
        """Return y as a loop is handed it."""
        return _model(self.y)


def _model(table: FloatArray) -> Model:
    def probabilities(ids: Sequence[int]) -> FloatArray:
        if len(ids) == 0 or not 0 <= int(ids[-1]) < len(table):
            raise RefereeError(
                f"a model was asked what follows {list(ids)[-1:]}: expected ids of the text so far, 0 … {len(table) - 1}"
            )
        # A copy: what a loop does to its row is its own affair.
        row: FloatArray = table[int(ids[-1])].copy()
        return row

    return probabilities
