"""Token ids as codecs write them: little-endian, in as few bytes as hold ⌈log2 V⌉ bits."""

from __future__ import annotations

import functools

from uihlm_proto.errors import InvalidRequestError


@functools.cache
def id_bit(vocabulary_size: int) -> int:
    """Return ⌈log2 V⌉, the bits of one token id."""
    return max(1, (vocabulary_size - 1).bit_length())


@functools.cache
def id_bytes(vocabulary_size: int) -> int:
    """Return the whole bytes that hold one token id."""
    return (id_bit(vocabulary_size) + 7) // 8


def encode_id(token: int, vocabulary_size: int) -> bytes:
    """Write one id."""
    return token.to_bytes(id_bytes(vocabulary_size), "little")


def decode_id(payload: bytes, vocabulary_size: int) -> int:
    """Read the id a payload starts with; InvalidRequestError if it is outside the vocabulary."""
    token = int.from_bytes(payload[: id_bytes(vocabulary_size)], "little")
    if token >= vocabulary_size:
        raise InvalidRequestError(f"draft id {token} is outside the vocabulary of {vocabulary_size} tokens")
    return token
