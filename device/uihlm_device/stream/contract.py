"""What a device and its base station must agree on before a session."""

from __future__ import annotations

from dataclasses import dataclass

from uihlm_proto.codecs import Codec
from uihlm_proto.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Contract:
    """What every session of a device agrees on with the base station.

    Attributes:
        fingerprint: of the tokenizer's vocabulary.
        sampling: shapes x and y alike.
        codec: of the uplink.
        stop_ids: ids that end an answer; none leaves it to the LLM's tokenizer.
    """

    fingerprint: bytes
    sampling: Sampling
    codec: Codec
    stop_ids: frozenset[int] = frozenset()
