"""One case of the fuzzer: what it says to the base station, drawn from its own seed, so that it can be played again alone."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

from benchmarks.fuzz.messages.belief import Belief
from benchmarks.fuzz.messages.mutation import mutated, odd_fields
from benchmarks.fuzz.messages.right import RIGHT, WEIGHTS, in_flight, opening, stale
from benchmarks.fuzz.messages.wrong import EITHER, Codes, bad_open, bad_upload, out_of_order

_ANSWERED: Codes = frozenset()
_TRIES = 8


class Kind(enum.Enum):
    """What a case does."""

    STREAM = "stream"
    SCORE = "score"
    STRANGER = "stranger"
    OVERSIZE = "oversize"
    METHOD = "method"
    HEALTH = "health"
    SILENT = "silent"
    SOCKET = "socket"


_KINDS = {
    Kind.STREAM: 90,
    Kind.SCORE: 4,
    Kind.STRANGER: 2,
    Kind.OVERSIZE: 1,
    Kind.METHOD: 1,
    Kind.HEALTH: 1,
    Kind.SILENT: 0.5,
    Kind.SOCKET: 0.5,
}


class End(enum.Enum):
    """How a stream ends that was not refused."""

    HALF_CLOSE = "half-close"
    CANCEL = "cancel"
    CANCEL_IN_ROUND = "cancel in a round"


@dataclass(frozen=True, slots=True)
class Step:
    """Messages sent without waiting, and what may answer the stream.

    Attributes:
        kind: for reports.
        raw: the messages as bytes.
        codes: statuses that may refuse the last of them.
        must: whether it must be refused; else it may also be answered. Without codes all must be answered.
    """

    kind: str
    raw: tuple[bytes, ...]
    codes: Codes = _ANSWERED
    must: bool = False


class Case:
    """One case.

    Attributes:
        number: in its campaign.
        rng: the source of everything it says.
        kind: what it does.
    """

    def __init__(self, seed: int, number: int) -> None:
        """Draw what kind it is."""
        self.number = number
        self.rng = random.Random(f"{seed}/{number}")
        self.kind = self.rng.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
        self._left = self.rng.choice((0, 2, 6, 12, 25, 40))
        self._last: bytes = b""

    def first(self, belief: Belief) -> Step:
        """Return how a stream begins."""
        chance = self.rng.random()
        if chance < 0.06:
            kind, request, codes = bad_open(self.rng)
            return Step(kind, (request.SerializeToString(),), codes, must=True)
        if chance < 0.08:
            return self._out_of_order(belief)
        raw = opening(self.rng).SerializeToString()
        if chance < 0.14:
            return self._mutated(belief, raw, raw)
        self._last = raw
        return Step("open", (raw,))

    def next(self, belief: Belief) -> Step | End:
        """Return what an open stream says next, or how it ends."""
        self._left -= 1
        if self._left < 0:
            return self._end(belief)
        chance = self.rng.random()
        if chance < 0.08 and belief.sure and belief.codec:
            ahead = in_flight(self.rng, belief)
            if len(ahead) > 1:
                return Step("in flight", tuple(request.SerializeToString() for request in ahead))
        if chance < 0.2 and belief.epoch:
            many = [stale(self.rng, belief) for _ in range(self.rng.randint(2, 12))]
            return Step("stale", tuple(request.SerializeToString() for request in many if request is not None))
        kind, raw = self._right(belief)
        if raw is None:
            return self._end(belief)
        if chance > 0.96:
            return self._mutated(belief, raw, self._last)
        self._last = raw
        return Step(kind, (raw,)) if belief.sure else Step(f"after a mutation: {kind}", (raw,), EITHER)

    def _right(self, belief: Belief) -> tuple[str, bytes | None]:
        for _ in range(_TRIES):
            kind = self.rng.choices(tuple(RIGHT), WEIGHTS)[0]
            request = RIGHT[kind](self.rng, belief)
            if request is not None:
                return kind, request.SerializeToString()
        return "", None

    def _end(self, belief: Belief) -> Step | End:
        if self._left < -3:
            return End.HALF_CLOSE
        chance = self.rng.random()
        if chance < 0.4:
            kind, request, codes = bad_upload(self.rng, belief)
            # What an unsure session would have to say, this side cannot tell.
            return Step(
                kind, (request.SerializeToString(),), codes | (EITHER if not belief.sure else codes), belief.sure
            )
        if chance < 0.5:
            return self._out_of_order(belief)
        if chance < 0.75:
            _, request, _ = bad_upload(self.rng, belief)
            return self._mutated(belief, request.SerializeToString(), self._last)
        return self.rng.choice((End.HALF_CLOSE, End.HALF_CLOSE, End.CANCEL, End.CANCEL_IN_ROUND))

    def _out_of_order(self, belief: Belief) -> Step:
        kind, request, codes = out_of_order(self.rng, belief)
        return Step(kind, (request.SerializeToString(),), codes, must=True)

    def _mutated(self, belief: Belief, raw: bytes, other: bytes) -> Step:
        from uihlm_proto.v1 import verification_pb2 as pb

        if self.rng.random() < 0.4:
            odd = odd_fields(self.rng, belief, pb.VerifyRequest.FromString(raw))
            return Step("odd fields", (odd.SerializeToString(),), EITHER)
        return Step("mutated bytes", (mutated(self.rng, raw, other),), EITHER)
