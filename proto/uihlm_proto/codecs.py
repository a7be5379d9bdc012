"""Uplink codecs: what a draft token costs on the air.

The order is always: quantise x to x̂, draw d from x̂, send the very bytes x̂ was made from. The acceptance rule then sees the
distribution d really came from, and speculative sampling stays exact whatever the codec throws away. (Drawing first and
truncating after is biased; tests/losslessness shows it.)

codec       payload of one draft                                   judge
dense32     id ‖ x as float32, V·32 bits (the paper's)             residual
dense16     id ‖ x as float16, V·16 bits                           residual
coupled     id alone, ⌈log2 V⌉ bits, rounded up to whole bytes     coupled

`coupled` sends no distribution: both ends race the same exponential noise, d = argmin(E/x) here and argmin(E/y) there, and
the LLM's own draw always stands. Ids are little-endian.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, uniform, words
from uihlm_proto.sampling import draw, race

FloatArray = npt.NDArray[np.float64]


class Judge(enum.Enum):
    """The two acceptance rules a codec can ask for (basestation/uihlm_basestation/verification.py)."""

    RESIDUAL = "residual"
    COUPLED = "coupled"


@dataclass(frozen=True, slots=True)
class CodedDraft:
    """A draft token as drawn by a codec.

    Attributes:
        token: the draft d.
        x_hat: the distribution d was drawn from, `[V]`.
        encode: makes the payload; called for uploaded drafts only.
    """

    token: int
    x_hat: FloatArray
    encode: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class ReceivedDraft:
    """A draft token as the base station decodes it; `x_hat` is None where the codec does not send it."""

    token: int
    x_hat: FloatArray | None


class Codec(Protocol):
    """One uplink format: both ends' view of it."""

    @property
    def name(self) -> str:
        """Its name on the wire."""

    @property
    def vocabulary_size(self) -> int:
        """V."""

    @property
    def judge(self) -> Judge:
        """The acceptance rule that fits what it sends."""

    def draft(self, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        """Draw the token at `position` from x `[V]` as the codec quantises it."""

    def decode(self, payload: bytes) -> ReceivedDraft:
        """Read one payload; InvalidRequestError says what is wrong with a bad one."""

    def model_bit(self, drafts: int, payload_bit: int, b_prob: int | None) -> int:
        """Return the billed bits of an upload: the paper's B = V·b_prob a draft, or the payload for compact codecs."""

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload of one draft."""


def id_bit(vocabulary_size: int) -> int:
    """Return ⌈log2 V⌉, the bits of one token id."""
    return max(1, (vocabulary_size - 1).bit_length())


def _id_bytes(vocabulary_size: int) -> int:
    return (id_bit(vocabulary_size) + 7) // 8


def _decode_id(payload: bytes, vocabulary_size: int) -> int:
    token = int.from_bytes(payload[: _id_bytes(vocabulary_size)], "little")
    if token >= vocabulary_size:
        raise InvalidRequestError(f"draft id {token} is outside the vocabulary of {vocabulary_size} tokens")
    return token


@dataclass(frozen=True, slots=True)
class DenseCodec:
    """The whole distribution as floats: the paper's B = V·b_prob bits a token."""

    name: str
    vocabulary_size: int
    dtype: np.dtype[np.floating]
    mass_tolerance: float
    judge: Judge = field(default=Judge.RESIDUAL, init=False)

    def draft(self, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        """Quantise x, then draw d = F⁻¹(u) from the quantised x̂."""
        quantised = x.astype(self.dtype)
        x_hat = quantised.astype(np.float64)
        x_hat /= x_hat.sum()
        token = draw(x_hat, uniform(key, Role.DRAFT, position))
        id_bytes = _id_bytes(self.vocabulary_size)
        return CodedDraft(token, x_hat, lambda: token.to_bytes(id_bytes, "little") + quantised.tobytes())

    def decode(self, payload: bytes) -> ReceivedDraft:
        """Read id and distribution; the mass must be 1 within the codec's tolerance, the draft's own above 0."""
        if len(payload) != self.max_payload_bytes:
            raise InvalidRequestError(
                f"a {self.name} draft over {self.vocabulary_size} tokens has {self.max_payload_bytes} bytes, "
                f"got {len(payload)}"
            )
        token = _decode_id(payload, self.vocabulary_size)
        received = np.frombuffer(payload, self.dtype, offset=_id_bytes(self.vocabulary_size))
        x_hat = received.astype(np.float64)
        with np.errstate(invalid="ignore"):  # inf − inf is refused on the next line
            mass = float(x_hat.sum())
        if not np.isfinite(mass):
            raise InvalidRequestError(f"the {self.name} distribution of draft {token} has a value that is not finite")
        if x_hat.min() < 0.0:
            raise InvalidRequestError(f"the {self.name} distribution of draft {token} has a negative value")
        if abs(mass - 1.0) > self.mass_tolerance:
            raise InvalidRequestError(
                f"the {self.name} distribution of draft {token} sums to {mass:.6g}, not to 1 within {self.mass_tolerance}"
            )
        if x_hat[token] <= 0.0:
            raise InvalidRequestError(f"draft {token} has probability 0 in its own distribution: it cannot be its draw")
        x_hat /= mass
        return ReceivedDraft(token, x_hat)

    def model_bit(self, drafts: int, payload_bit: int, b_prob: int | None) -> int:
        """Return drafts · V · b_prob; b_prob defaults to the width of the floats sent."""
        return drafts * self.vocabulary_size * (b_prob or self.dtype.itemsize * 8)

    @property
    def max_payload_bytes(self) -> int:
        """Id and V floats: every payload has this size."""
        return _id_bytes(self.vocabulary_size) + self.vocabulary_size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class CoupledCodec:
    """A token id and nothing else; shared noise makes the two ends' draws agree as often as it can."""

    vocabulary_size: int
    name: str = field(default="coupled", init=False)
    judge: Judge = field(default=Judge.COUPLED, init=False)

    def draft(self, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        """Draw d = argmin(E/x) with the noise the base station will race y with."""
        token = race(x, words(key, Role.GUMBEL, position, self.vocabulary_size))
        id_bytes = _id_bytes(self.vocabulary_size)
        return CodedDraft(token, x, lambda: token.to_bytes(id_bytes, "little"))

    def decode(self, payload: bytes) -> ReceivedDraft:
        """Read the id."""
        if len(payload) != self.max_payload_bytes:
            raise InvalidRequestError(f"a coupled draft has {self.max_payload_bytes} bytes, got {len(payload)}")
        return ReceivedDraft(_decode_id(payload, self.vocabulary_size), None)

    def model_bit(self, drafts: int, payload_bit: int, b_prob: int | None) -> int:
        """Return the payload: there is no distribution to bill, so b_prob says nothing here."""
        return payload_bit

    @property
    def max_payload_bytes(self) -> int:
        """The bytes of one id."""
        return _id_bytes(self.vocabulary_size)


CODECS: dict[str, Callable[[int], Codec]] = {
    "dense32": lambda v: DenseCodec("dense32", v, np.dtype("<f4"), 1e-4),
    "dense16": lambda v: DenseCodec("dense16", v, np.dtype("<f2"), 1e-2),
    "coupled": CoupledCodec,
}


def codec(name: str, vocabulary_size: int) -> Codec:
    """Return the codec of that name for a vocabulary of V tokens; InvalidRequestError lists the known ones."""
    if name not in CODECS:
        raise InvalidRequestError(f"unknown codec {name!r}: this end knows {', '.join(sorted(CODECS))}")
    return CODECS[name](vocabulary_size)
