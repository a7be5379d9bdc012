"""Bytes that were a message: flipped, cut, joined, repeated; and fields with the values that break programs."""

from __future__ import annotations

import random
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from benchmarks.fuzz.messages.belief import Belief
from uihlm_proto.v1 import verification_pb2 as pb

_EDGES = (0, 1, 2, 127, 128, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
_NUMBERS = ("round", "epoch", "first_position", "generate", "assumed_id", "continues", "stream_interval")
_LISTS = ("context_ids", "skipped_ids")


def mutated(rng: random.Random, raw: bytes, other: bytes) -> bytes:
    """Return the bytes after one to four mutations; `other` is a message to take pieces from."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(7):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del data[at:]
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4:
                cut = rng.randrange(len(other) + 1)
                data[at:] = other[cut:]
            case 5:
                data[at:at] = data[at : at + rng.randint(1, 16)]
            case _:
                del data[at : at + rng.randint(1, 8)]
    return bytes(data)


def odd_fields(rng: random.Random, belief: Belief, request: pb.VerifyRequest) -> pb.VerifyRequest:
    """Return the message with a few fields of an upload set to values at the edges, or near what is right."""
    if not request.HasField("upload"):
        return request
    upload = request.upload
    near = (belief.length, belief.length + 1, belief.epoch, belief.epoch + 1, belief.bonus or 0)
    for _ in range(rng.choice((1, 1, 2, 3))):
        match rng.randrange(5):
            case 0 | 1:
                setattr(upload, rng.choice(_NUMBERS), rng.choice((*_EDGES, *near)))
            case 2:
                field = getattr(upload, rng.choice(_LISTS))
                field.extend(rng.choice(((0,), (63,), (64,), (2**32 - 1,), (1,) * 200)))
            case 3:
                upload.parents.extend(rng.choices((-1, 0, 1, -2, 63, 2**31 - 1), k=rng.randint(1, 5)))
            case _:
                name = rng.choice(
                    ("drafts", "parents", "audit", "skipped_ids", "context_ids", "assumed_id", "continues")
                )
                upload.ClearField(name)
    return request


def parsed(raw: bytes) -> pb.VerifyRequest | None:
    """Return what the bytes say, None if they say nothing."""
    try:
        return pb.VerifyRequest.FromString(raw)
    except DecodeError:
        return None


def is_last(request: pb.VerifyRequest, answers: Sequence[pb.VerifyResponse]) -> bool:
    """Return whether a request that is being answered has had all its answers."""
    if request.HasField("open") or not request.upload.generate:
        return bool(answers)
    verdict = answers[-1].verdict
    return verdict.last or verdict.stale
