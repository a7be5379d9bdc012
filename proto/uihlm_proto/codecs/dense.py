"""`dense32`, `dense16`: the whole distribution as floats, the paper's B = V·b_prob bits a token.

payload = id ‖ x as float32 or float16
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from uihlm_proto.codecs.half import from_half, to_half
from uihlm_proto.codecs.ids import decode_id, encode_id, id_bytes
from uihlm_proto.codecs.protocol import CodedDraft, FloatArray, Judge, ReceivedDraft
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, uniform
from uihlm_proto.sampling import draw


@dataclass(frozen=True, slots=True)
class DenseCodec:
    """Every probability as a float of `dtype`; a received mass may miss 1 by `mass_tolerance`."""

    name: str
    vocabulary_size: int
    dtype: np.dtype[np.floating]
    mass_tolerance: float
    judge: Judge = field(default=Judge.RESIDUAL, init=False)

    def draft(self, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        """Quantise x, then draw d = F⁻¹(u) from the quantised x̂."""
        quantised = to_half(x) if self.dtype == np.float16 else x.astype(self.dtype)
        x_hat = _doubles(quantised)
        x_hat *= 1.0 / x_hat.sum()
        token = draw(x_hat, uniform(key, Role.DRAFT, position))
        return CodedDraft(token, x_hat, lambda: b"".join((encode_id(token, self.vocabulary_size), quantised.data)))

    def decode(self, payload: bytes) -> ReceivedDraft:
        """Read id and distribution; the mass must be 1 within the codec's tolerance, the draft's own above 0."""
        if len(payload) != self.max_payload_bytes:
            raise InvalidRequestError(
                f"a {self.name} draft over {self.vocabulary_size} tokens has {self.max_payload_bytes} bytes, "
                f"got {len(payload)}"
            )
        token = decode_id(payload, self.vocabulary_size)
        received = np.frombuffer(payload, self.dtype, offset=id_bytes(self.vocabulary_size))
        with np.errstate(invalid="ignore"):  # inf − inf, and a NaN that signals, are refused on the next line
            x_hat = _doubles(received)
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
        x_hat *= 1.0 / mass
        return ReceivedDraft(token, x_hat)

    def model_bit(self, drafts: int, payload_bit: int, b_prob: int | None) -> int:
        """Return drafts · V · b_prob; b_prob defaults to the width of the floats sent."""
        return drafts * self.vocabulary_size * (b_prob or self.dtype.itemsize * 8)

    @property
    def max_payload_bytes(self) -> int:
        """Id and V floats: every payload has this size."""
        return id_bytes(self.vocabulary_size) + self.vocabulary_size * self.dtype.itemsize


def _doubles(values: np.ndarray[tuple[int], np.dtype[np.floating]]) -> FloatArray:
    return from_half(values) if values.dtype == np.float16 else values.astype(np.float64)
