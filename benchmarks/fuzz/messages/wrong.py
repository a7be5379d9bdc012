"""Messages that no correct device sends, each with the statuses that may answer it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import numpy as np

from benchmarks.fuzz.engine import MAX_CONTEXT, VOCABULARY
from benchmarks.fuzz.messages.belief import Belief
from benchmarks.fuzz.messages.right import opening, payloads
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_proto.v1 import verification_pb2 as pb

Codes = frozenset[grpc.StatusCode]
INVALID: Codes = frozenset({grpc.StatusCode.INVALID_ARGUMENT})
MISMATCH: Codes = frozenset({grpc.StatusCode.FAILED_PRECONDITION})
# Of what may be wrong in several ways at once.
EITHER: Codes = INVALID | MISMATCH
TOO_LARGE: Codes = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED})

Change = Callable[[random.Random, Belief, pb.Upload], None]
_NOT_FINITE = (math.nan, math.inf, -math.inf)


@dataclass(frozen=True, slots=True)
class Wrong:
    """One kind: what is done to a message that was right, and what may answer it."""

    change: Callable[..., None]
    codes: Codes


def _id(rng: random.Random) -> int:
    """Return an id outside the vocabulary."""
    return rng.choice((VOCABULARY, VOCABULARY + rng.getrandbits(8), rng.getrandbits(32) | VOCABULARY, 2**32 - 1))


def _set(name: str, *values: object) -> Callable[[random.Random, pb.Open], None]:
    def change(rng: random.Random, request: pb.Open) -> None:
        setattr(request, name, rng.choice(values))

    return change


def _sampling(name: str, *values: float) -> Callable[[random.Random, pb.Open], None]:
    def change(rng: random.Random, request: pb.Open) -> None:
        setattr(request.sampling, name, rng.choice(values))

    return change


def _prefix(rng: random.Random, request: pb.Open) -> None:
    request.prefix_ids[rng.randrange(len(request.prefix_ids))] = _id(rng)


def _stop(rng: random.Random, request: pb.Open) -> None:
    request.stop_ids.extend(rng.choice(([_id(rng)], [1] * 257)))


def _long(rng: random.Random, request: pb.Open) -> None:
    request.prefix_ids.extend([1] * (MAX_CONTEXT + rng.randrange(20)))


def _version(rng: random.Random, request: pb.Open) -> None:
    request.protocol_version = rng.choice((0, 2, rng.getrandbits(32) | 2))


def _vocabulary(rng: random.Random, request: pb.Open) -> None:
    request.vocabulary_size = rng.choice((0, VOCABULARY - 1, VOCABULARY + 1, 2**32 - 1))


def _fingerprint(rng: random.Random, request: pb.Open) -> None:
    request.tokenizer_fingerprint = rng.randbytes(rng.choice((0, 31, 32, 33, 500)))


def _codec(rng: random.Random, request: pb.Open) -> None:
    request.codec = rng.choice(
        ("", "zip", "dense", "dense32:", "dense32:k=1", "lattice:k=0", "lattice:k=1e9", "lattice:tv=nan", "lattice:,",
         "lattice:k=-1", "lattice:l=99999999999", "COUPLED", "z" * rng.randrange(1, 3000), "lattice:k=16,k=16", "\x1b[2J")
    )  # fmt: skip


def _key(rng: random.Random, request: pb.Open) -> None:
    request.session_key = rng.randbytes(rng.choice((0, 1, 15, 17, 64)))


OPENS: dict[str, Wrong] = {
    "version": Wrong(_version, MISMATCH),
    "vocabulary size": Wrong(_vocabulary, MISMATCH),
    "fingerprint": Wrong(_fingerprint, MISMATCH),
    "prefix id": Wrong(_prefix, INVALID),
    "no prefix": Wrong(lambda rng, request: request.ClearField("prefix_ids"), INVALID),
    "long prefix": Wrong(_long, INVALID),
    "stop ids": Wrong(_stop, INVALID),
    "codec": Wrong(_codec, INVALID),
    "key": Wrong(_key, INVALID),
    "temperature": Wrong(_sampling("temperature", -1.0, -5e-324, *_NOT_FINITE), INVALID),
    "top_p": Wrong(_sampling("top_p", -0.5, 1.0000001, 1e300, *_NOT_FINITE), INVALID),
}


def _payload(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    draft = rng.choice(request.drafts)
    draft.payload = rng.choice(
        (b"", draft.payload[:-1], draft.payload + b"\0", rng.randbytes(len(draft.payload) + 1), draft.payload * 3)
    )


def _values(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    """Put into a dense distribution what is none; of the other codecs, an id that is none."""
    draft = request.drafts[rng.randrange(len(request.drafts))]
    if not belief.codec.startswith("dense"):
        # The id comes first in every codec, but a lattice's bytes may be anything: cut them.
        draft.payload = draft.payload[:-1] if belief.codec != "coupled" else bytes([rng.randint(VOCABULARY, 255)])
        return
    x = np.frombuffer(draft.payload[1:], "<f4" if belief.codec == "dense32" else "<f2").copy()
    x[rng.randrange(VOCABULARY)] = rng.choice((math.nan, math.inf, -math.inf, -1.0, 2.0, 60000.0))
    draft.payload = draft.payload[:1] + x.tobytes()


def _out_of_range(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    rng.choice((request.context_ids, request.skipped_ids)).append(_id(rng))
    request.first_position += 1
    request.ClearField("audit")


def _position(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    wrong = rng.choice((0, request.first_position + 1, max(request.first_position, 1) - 1, rng.getrandbits(32)))
    request.first_position = wrong if wrong != request.first_position else wrong + 1


def _future(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    request.epoch = min(2**32 - 1, belief.epoch + 1 + rng.choice((0, 1, rng.getrandbits(31))))


def _both(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    request.generate = rng.choice((1, 7, 2**32 - 1))


def _neither(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    for name in ("drafts", "audit", "parents"):
        request.ClearField(name)


def _many(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    # Of the smallest payloads, or the message itself would be too large.
    request.drafts.extend([pb.Draft(payload=b"\1")] * (MAX_DRAFTS + 1))


def _full(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    more = belief.room + rng.randrange(1, 50)
    request.skipped_ids.extend([1] * more)
    request.first_position += more
    request.ClearField("audit")


def _parents(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    n = len(request.drafts)
    request.ClearField("audit")
    wrong = rng.choice(([n], [-2], [0] * n, [-1] * (n + 1), [2**31 - 1], [-(2**31)]))
    request.parents[:] = wrong


def _audit(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    request.audit = rng.randbytes(len(request.skipped_ids) + rng.choice((1, 2, 300)))


def _bonus(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    request.assumed_id = rng.getrandbits(32)


def _continues(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    # A tree is continued by drafts alone.
    request.continues = rng.choice((1, 7, 2**32 - 1))
    request.skipped_ids.append(1)


def _stream_interval(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    """Ask for verdicts every so many tokens where none are asked for, or in greater numbers than any verdict tells of."""
    request.stream_interval = rng.choice((1, 64, 65, 2**32 - 1))
    if rng.random() < 0.5:
        for name in ("drafts", "audit", "parents", "continues", "assumed_id", "run_on"):
            request.ClearField(name)
        request.generate, request.stream_interval = 1, rng.choice((65, 2**32 - 1))


def _run_on(rng: random.Random, belief: Belief, request: pb.Upload) -> None:
    # A word that the protocol does not have, or one beside a tree.
    request.run_on = rng.choice((1, 2, 3, -1, 2**31 - 1))
    if request.run_on in pb.RunOn.values():
        request.parents[:] = [-1] * len(request.drafts)


UPLOADS: dict[str, Wrong] = {
    "payload": Wrong(_payload, INVALID),
    "values": Wrong(_values, INVALID),
    "id": Wrong(_out_of_range, INVALID),
    "position": Wrong(_position, INVALID),
    "future epoch": Wrong(_future, INVALID),
    "drafts and generate": Wrong(_both, INVALID),
    "nothing asked": Wrong(_neither, INVALID),
    "too many drafts": Wrong(_many, INVALID),
    "full context": Wrong(_full, INVALID),
    "parents": Wrong(_parents, INVALID),
    "audit": Wrong(_audit, INVALID),
    "more than a tree's drafts": Wrong(_continues, INVALID),
    "run on": Wrong(_run_on, INVALID),
    "stream interval": Wrong(_stream_interval, INVALID),
    "bonus that never came": Wrong(_bonus, INVALID),
}


def bad_open(rng: random.Random) -> tuple[str, pb.VerifyRequest, Codes]:
    """Return the kind of a bad Open, the message, and what may answer it."""
    kind = rng.choice(tuple(OPENS))
    request = opening(rng)
    OPENS[kind].change(rng, request.open)
    return f"open: {kind}", request, OPENS[kind].codes


def bad_upload(rng: random.Random, belief: Belief) -> tuple[str, pb.VerifyRequest, Codes]:
    """Return the kind of a bad Upload to an open session, the message, and what may answer it."""
    kind = rng.choice(tuple(UPLOADS))
    while kind == "bonus that never came" and belief.bonus is not None:
        kind = rng.choice(tuple(UPLOADS))
    upload = pb.Upload(
        round=rng.getrandbits(32),
        epoch=belief.epoch,
        first_position=belief.length,
        drafts=payloads(rng, belief, rng.choice((1, 1, 2))),
    )
    UPLOADS[kind].change(rng, belief, upload)
    return f"upload: {kind}", pb.VerifyRequest(upload=upload), UPLOADS[kind].codes


def out_of_order(rng: random.Random, belief: Belief) -> tuple[str, pb.VerifyRequest, Codes]:
    """Return a message that is right by itself and wrong now."""
    if rng.random() < 0.2:
        return "order: empty request", pb.VerifyRequest(), INVALID
    if belief.opened:
        return "order: open twice", opening(rng), INVALID
    return "order: upload first", pb.VerifyRequest(upload=pb.Upload(round=1, generate=1)), INVALID
