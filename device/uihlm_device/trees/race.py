"""What may follow a position, best first in the race of codec `coupled`."""

from __future__ import annotations

import numpy as np

from uihlm_device.record import Float32Array
from uihlm_device.trees.chances import CANDIDATES, Chances
from uihlm_device.trees.noise import Noise
from uihlm_device.trees.tree import Candidates, best_of
from uihlm_proto.sampling import Sampling


class Race:
    """The candidates of one round's tree, whose roots are at position `first`."""

    def __init__(self, sampling: Sampling, noise: Noise, first: int, chances: Chances) -> None:
        self._sampling = sampling
        self._noise = noise
        self._first = first
        self._chances = chances

    def candidates(self, logits: Float32Array, depth: int) -> Candidates:
        """Return what may follow a position that the tree reaches at `depth` nodes from its root."""
        x = self._sampling.distribution(logits)
        if self._sampling.temperature == 0.0:
            # Greedy draws have no noise: those next in line are the next likeliest.
            best, scores = best_of(Sampling(1.0).distribution(logits), np.ones(x.size), CANDIDATES)
        else:
            best, scores = best_of(x, self._noise.at(self._first + depth, x.size), CANDIDATES)
        tokens = tuple(best.tolist())
        return Candidates(tokens, tuple(x[best].tolist()), self._chances.of(scores), tuple(scores.tolist()))
