"""The noise of codec `coupled` by position: each made once, however many rounds' trees reach the position.

    E(position) = −log U(key, GUMBEL, position, 0 … V−1)        [V]

A tree reaches beyond what its verdict commits, so the next one, whose roots are at a later position, meets positions that
this one has met. What lies before its roots is dropped: at most as many are kept as a tree is deep.
"""

from __future__ import annotations

from uihlm_device.trees.tree import FloatArray
from uihlm_proto.randomness import Role, exponentials


class Noise:
    """The noise of one conversation from some position on.

    Attributes:
        made: how often it was made for a position.
    """

    def __init__(self) -> None:
        self.made = 0
        self._key = b""
        self._kept: dict[int, FloatArray] = {}

    def begin(self, key: bytes, first: int) -> None:
        """Let go of what lies before position `first`, and of another conversation's noise."""
        same = key == self._key
        self._key = key
        self._kept = {position: made for position, made in self._kept.items() if same and position >= first}

    def at(self, position: int, size: int) -> FloatArray:
        """Return E of every token at one position, `[size]`."""
        noise = self._kept.get(position)
        if noise is None or noise.size != size:
            self.made += 1
            noise = self._kept[position] = exponentials(self._key, Role.GUMBEL, position, size)
        return noise
