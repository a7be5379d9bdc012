"""Do the two ends fit each other, and ids the engine?"""

from __future__ import annotations

from collections.abc import Sequence

from uihlm_basestation.engines.engine import Engine
from uihlm_proto.errors import InvalidRequestError, MismatchError
from uihlm_proto.limits import PROTOCOL_VERSION
from uihlm_proto.v1 import verification_pb2 as pb


def check_ends(engine: Engine, request: pb.Open) -> None:
    """Raise MismatchError for a device of another protocol version, vocabulary size or tokenizer."""
    version, size, fingerprint = request.protocol_version, request.vocabulary_size, request.tokenizer_fingerprint
    if version != PROTOCOL_VERSION:
        raise MismatchError(
            f"protocol version {version} is not spoken here: this base station speaks {PROTOCOL_VERSION}"
        )
    if size != engine.vocabulary_size:
        raise MismatchError(
            f"the device's vocabulary has {size} tokens, the LLM's {engine.vocabulary_size}: use two models of one family"
        )
    if fingerprint != engine.fingerprint:
        raise MismatchError(
            f"the device's tokenizer ({fingerprint.hex()[:12]}…) is not the LLM's ({engine.fingerprint.hex()[:12]}…): "
            "use two models with one tokenizer"
        )


def check_ids(engine: Engine, ids: Sequence[int], needed: int) -> None:
    """Raise InvalidRequestError for an id that the LLM does not have, or if `needed` positions are too many."""
    bad = next((i for i in ids if i >= engine.vocabulary_size), None)
    if bad is not None:
        raise InvalidRequestError(f"token id {bad} is outside the vocabulary of {engine.vocabulary_size}")
    if needed > engine.max_context:
        raise InvalidRequestError(
            f"{needed} positions are needed, a session here holds {engine.max_context}: shorten the prompt"
        )
