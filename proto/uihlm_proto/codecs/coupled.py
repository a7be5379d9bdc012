"""`coupled`: a token id and nothing else, ⌈log2 V⌉ bits, rounded up to whole bytes.

No distribution is sent: both ends race the same exponential noise, d = argmin(E/x) here and argmin(E/y) there, and the LLM's
own draw always stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from uihlm_proto.codecs.ids import decode_id, encode_id, id_bytes
from uihlm_proto.codecs.protocol import CodedDraft, FloatArray, Judge, ReceivedDraft
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, words
from uihlm_proto.sampling import race


@dataclass(frozen=True, slots=True)
class CoupledCodec:
    """The id alone; shared noise makes the two ends' draws agree as often as it can."""

    vocabulary_size: int
    name: str = field(default="coupled", init=False)
    judge: Judge = field(default=Judge.COUPLED, init=False)

    def draft(self, x: FloatArray, key: bytes, position: int) -> CodedDraft:
        """Draw d = argmin(E/x) with the noise the base station will race y with."""
        token = race(x, words(key, Role.GUMBEL, position, self.vocabulary_size))
        return CodedDraft(token, x, lambda: encode_id(token, self.vocabulary_size))

    def decode(self, payload: bytes) -> ReceivedDraft:
        """Read the id."""
        if len(payload) != self.max_payload_bytes:
            raise InvalidRequestError(f"a coupled draft has {self.max_payload_bytes} bytes, got {len(payload)}")
        return ReceivedDraft(decode_id(payload, self.vocabulary_size), None)

    def model_bit(self, drafts: int, payload_bit: int, b_prob: int | None) -> int:
        """Return the payload: there is no distribution to bill, so b_prob says nothing here."""
        return payload_bit

    @property
    def max_payload_bytes(self) -> int:
        """The bytes of one id."""
        return id_bytes(self.vocabulary_size)
