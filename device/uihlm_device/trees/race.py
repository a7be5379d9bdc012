"""What may follow a position, best first in the race of codec `coupled`: the noise of each depth is made once a round."""

from __future__ import annotations

import numpy as np

from uihlm_device.record import Float32Array
from uihlm_device.trees.chances import CANDIDATES, Chances
from uihlm_device.trees.tree import Candidates, FloatArray, best_of
from uihlm_proto.randomness import Role, exponentials
from uihlm_proto.sampling import Sampling


class Race:
    """The candidates of one round's tree, whose roots are at position `first`."""

    def __init__(self, sampling: Sampling, key: bytes, first: int, chances: Chances) -> None:
        self._sampling = sampling
        self._key = key
        self._first = first
        self._chances = chances
        self._noise: list[FloatArray] = []

    def candidates(self, logits: Float32Array, depth: int) -> Candidates:
        """Return what may follow a position that the tree reaches at `depth` nodes from its root."""
        x = self._sampling.distribution(logits)
        if self._sampling.temperature == 0.0:
            # Greedy draws have no noise: those next in line are the next likeliest.
            best, scores = best_of(Sampling(1.0).distribution(logits), np.ones(x.size), CANDIDATES)
        else:
            while len(self._noise) <= depth:
                self._noise.append(exponentials(self._key, Role.GUMBEL, self._first + len(self._noise), x.size))
            best, scores = best_of(x, self._noise[depth], CANDIDATES)
        tokens = tuple(best.tolist())
        return Candidates(tokens, tuple(x[best].tolist()), self._chances.of(scores), tuple(scores.tolist()))
