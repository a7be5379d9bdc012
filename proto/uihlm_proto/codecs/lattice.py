"""`lattice`: the K likeliest tokens with counts that sum to ℓ, as one number.

    payload = (number of point and draft) · G + grid        little-endian, in as few bytes as the largest number takes

The order is quantise, draw, send: d is drawn from the counts, and the counts are what is sent. Both ends make the same
x̂ = n/ℓ of them, bit for bit, since one float64 division is exact to the last bit everywhere. Mass outside the support is
dropped, so d is always inside it.

A fixed codec has G = 1 grid. An adaptive one picks, draft by draft, the cheapest of `LADDER`'s grids that keeps TV(x, x̂)
within ε (tolerance.py); where none does, the dearest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from uihlm_proto.codecs.grid import Grid, Point
from uihlm_proto.codecs.lattice_settings import FixedLattice, LatticeSettings
from uihlm_proto.codecs.protocol import CodedDraft, FloatArray, Judge, ReceivedDraft
from uihlm_proto.codecs.quantisation import IntArray, Quantised, likeliest, quantise
from uihlm_proto.codecs.tolerance import Tolerance
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, uniform
from uihlm_proto.sampling import draw

# (K, ℓ) an adaptive codec chooses from: 4 or 16 steps a token. Part of the protocol: a payload names a grid by its place.
LADDER = (
    (1, 1), (2, 8), (2, 32), (3, 12), (3, 48), (4, 16), (4, 64), (6, 24), (6, 96), (8, 32), (8, 128), (12, 48),
    (12, 192), (16, 64), (16, 256), (24, 96), (24, 384), (32, 128), (32, 512), (48, 192), (48, 768), (64, 256),
    (64, 1024),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LatticeCodec:
    """Points of one grid, or of the cheapest that serves.

    Attributes:
        name: the canonical name of its settings.
        vocabulary_size: V.
        grids: by rising size; a payload names one by its place.
        tolerance: chooses among several grids; None with one.
    """

    name: str
    vocabulary_size: int
    grids: tuple[Grid, ...]
    tolerance: Tolerance | None
    judge: Judge = field(default=Judge.RESIDUAL, init=False)

    @classmethod
    def of(cls, settings: LatticeSettings, vocabulary_size: int) -> LatticeCodec:
        """Return the codec with these settings."""
        if isinstance(settings, FixedLattice):
            grids = (Grid.of(vocabulary_size, settings.k, settings.steps),)
            return cls(settings.name, vocabulary_size, grids, None)
        ladder = sorted((Grid.of(vocabulary_size, k, steps) for k, steps in LADDER), key=lambda grid: grid.size)
        return cls(settings.name, vocabulary_size, tuple(ladder), Tolerance(settings.tv, settings.alpha))

    def draft(self, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        """Quantise x, then draw d = F⁻¹(u) from the counts."""
        place, chosen = self._quantise(x, key, position)
        index = draw(chosen.counts.astype(np.float64), uniform(key, Role.DRAFT, position))

        def encode() -> bytes:
            number = self.grids[place].number(Point(chosen.support.tolist(), chosen.counts.tolist(), index))
            return (number * len(self.grids) + place).to_bytes(self._payload_bytes(self.grids[place]), "little")

        x_hat = self._x_hat(self.grids[place], chosen.support, chosen.counts)
        return CodedDraft(int(chosen.support[index]), x_hat, encode)

    def decode(self, payload: bytes) -> ReceivedDraft:
        """Read grid, support, counts and draft; all bytes must be those of exactly one point, the draft's count above 0."""
        if not 0 < len(payload) <= self.max_payload_bytes:
            raise self._wrong_length(payload, self.max_payload_bytes)
        number, place = divmod(int.from_bytes(payload, "little"), len(self.grids))
        grid = self.grids[place]
        if len(payload) != self._payload_bytes(grid):
            raise self._wrong_length(payload, self._payload_bytes(grid))
        if number >= grid.size:
            raise InvalidRequestError(
                f"the {self.name} draft is no point of the lattice with K = {grid.k}, ℓ = {grid.steps} over "
                f"{self.vocabulary_size} tokens: its number is too large"
            )
        point = grid.point(number)
        token = point.support[point.index]
        if point.counts[point.index] == 0:
            raise InvalidRequestError(f"draft {token} has probability 0 in its own distribution: it cannot be its draw")
        return ReceivedDraft(token, self._x_hat(grid, np.array(point.support), np.array(point.counts)))

    def model_bit(self, drafts: int, payload_bit: int, b_prob: int | None) -> int:
        """Return the payload: no V probabilities are sent, so b_prob says nothing here."""
        return payload_bit

    @property
    def max_payload_bytes(self) -> int:
        """The bytes of the dearest grid."""
        return self._payload_bytes(self.grids[-1])

    def _quantise(self, x: FloatArray, key: bytes, position: int) -> tuple[int, Quantised]:
        """Return the place of the grid x goes to, and x on it."""
        if self.tolerance is None:
            (grid,) = self.grids
            return 0, quantise(x, likeliest(x, grid.k), grid.steps)
        epsilon = self.tolerance.epsilon(key, position)
        ids = likeliest(x, max(grid.k for grid in self.grids))
        kept = np.cumsum(x[ids])
        last = len(self.grids) - 1
        for place, grid in enumerate(self.grids):
            # What the support drops is lost whatever the counts: most grids need no rounding to be ruled out.
            if place < last and 1.0 - kept[grid.k - 1] > epsilon:
                continue
            chosen = quantise(x, ids[: grid.k], grid.steps)
            if place == last or chosen.total_variation <= epsilon:
                break
        self.tolerance.drafted(position, chosen.total_variation)
        return place, chosen

    def _x_hat(self, grid: Grid, support: IntArray, counts: IntArray) -> FloatArray:
        x_hat = np.zeros(self.vocabulary_size)
        x_hat[support] = counts / grid.steps
        return x_hat

    def _payload_bytes(self, grid: Grid) -> int:
        return ((grid.size * len(self.grids) - 1).bit_length() + 7) // 8

    def _wrong_length(self, payload: bytes, expected: int) -> InvalidRequestError:
        return InvalidRequestError(
            f"a {self.name} draft over {self.vocabulary_size} tokens has {expected} bytes, got {len(payload)}"
        )
