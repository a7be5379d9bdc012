"""The bill: what every round cost on the link."""

from __future__ import annotations

import operator
import threading
from collections import deque
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from uihlm_proto.errors import ProtocolError

# Latenesses kept while nobody asks for them.
_LATEST = 4096
# Rounds whose bill nobody took: of answers that were left while verdicts were on their way. More are never open at once.
_MOST_ROUNDS = 4096

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoundBill:
    """What one round, a request and all its answers, cost on the link.

    Attributes:
        round: its number.
        model_bit: the paper's B = V·b_prob a draft; the payload for codecs that do not send V probabilities.
        payload_bit: codec bytes, skipped ids, audit.
        uplink_wire_bytes: the request on the wire.
        downlink_wire_bytes: its answers on the wire.
        airtime_s: the request's time on the air, transmissions lost to outage included.
        link_s: wait + grant + airtime + RTT + downlink; never the forward.
        wait_s: wait for the link to be free of earlier uploads.
        grant_s: wait for an uplink grant.
        rtt_s: propagation and core network.
        downlink_s: the answers' time on the air.
        forward_s: LLM forward that the clock was charged with, measured or fixed; not part of link_s.
        reached_at: when the last of its answers reaches the device, on the clock, seconds; 0 where it has none. No cost, so
            bills that differ in it alone are equal.
    """

    round: int
    model_bit: int = 0
    payload_bit: int = 0
    uplink_wire_bytes: int = 0
    downlink_wire_bytes: int = 0
    airtime_s: float = 0.0
    link_s: float = 0.0
    wait_s: float = 0.0
    grant_s: float = 0.0
    rtt_s: float = 0.0
    downlink_s: float = 0.0
    forward_s: float = 0.0
    reached_at: float = field(default=0.0, compare=False)

    @property
    def wire_bytes(self) -> int:
        """Both directions together."""
        return self.uplink_wire_bytes + self.downlink_wire_bytes

    def plus(self, other: RoundBill) -> RoundBill:
        """Return the sum of two bills, under this one's round. Of another round it takes what that cost, not when it was."""
        reached_at = max(self.reached_at, other.reached_at) if other.round == self.round else self.reached_at
        return RoundBill(self.round, *(*map(operator.add, _COSTS(self), _COSTS(other)), reached_at))


# What bills add up, in the order of their fields.
_COSTS = operator.attrgetter(*(f.name for f in fields(RoundBill) if f.name not in ("round", "reached_at")))


class Ledger:
    """The bills of a channel's rounds, whose numbers are unique. May be used from several threads.

    A round with several answers (`generate`) has several parts, in order: the request with its first answer, then each
    further answer alone. However early the answers are read, the n-th `pop` returns the n-th part.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[int, deque[RoundBill]] = {}
        self._unanswered: dict[int, RoundBill] = {}
        self._totals: tuple[Any, ...] = _COSTS(RoundBill(round=0))
        self._late_s: deque[float] = deque(maxlen=_LATEST)

    def charge_request(self, bill: RoundBill) -> None:
        """Charge what sending the request of `bill.round` cost; one sent again adds to what it cost before."""
        with self._lock:
            self._count(bill)
            self._hold(bill)

    def charge_answer(self, bill: RoundBill) -> None:
        """Charge what one answer to `bill.round` cost."""
        with self._lock:
            self._count(bill)
            request = self._unanswered.pop(bill.round, None)
            part = bill if request is None else request.plus(bill)
            self._parts.setdefault(bill.round, deque()).append(part)
            _forget_oldest(self._parts)

    def bill(self, round: int) -> RoundBill:
        """Return the sum of a round's parts so far that were not popped; ProtocolError if there are none."""
        with self._lock:
            parts: list[RoundBill] = list(self._parts.get(round, ()))
            if round in self._unanswered:
                parts.append(self._unanswered[round])
            if not parts:
                raise _unknown(round)
            total = parts[0]
            for part in parts[1:]:
                total = total.plus(part)
            return total

    def pop(self, round: int) -> RoundBill:
        """Return a round's next part and forget it; ProtocolError if there is none.

        A request without an answer (a lost session) is a part of its own.
        """
        with self._lock:
            if parts := self._parts.get(round):
                part = parts.popleft()
                if not parts:
                    del self._parts[round]
                return part
            if round in self._unanswered:
                return self._unanswered.pop(round)
            raise _unknown(round)

    def fold(self, lost: int, into: int) -> None:
        """Let the next part of round `into` carry what was charged to the lost round `lost`, as a request without answer.

        A lost round that was never sent costs nothing. Both may be one round, whose answer never reached its reader.
        """
        with self._lock:
            total = RoundBill(into)
            for part in self._parts.pop(lost, ()):
                total = total.plus(part)
            if (request := self._unanswered.pop(lost, None)) is not None:
                total = total.plus(request)
            self._hold(total)

    def totals(self) -> RoundBill:
        """Return the sum of everything charged, popped or not (its round is 0)."""
        with self._lock:
            return RoundBill(0, *self._totals)

    def note_late(self, seconds: float) -> None:
        """Note by how much an answer really came after the time that the modelled link says, seconds; no part of any bill."""
        with self._lock:
            self._late_s.append(seconds)

    def take_late(self) -> list[float]:
        """Return the latenesses noted since the last call, seconds, in order; none on a virtual clock, and only the latest
        of very many."""
        with self._lock:
            late_s = list(self._late_s)
            self._late_s.clear()
            return late_s

    def _count(self, bill: RoundBill) -> None:
        # Numbers alone: a bill is made where somebody asks for one, not twice a round on a device's way to its verdict.
        self._totals = tuple(map(operator.add, self._totals, _COSTS(bill)))

    def _hold(self, bill: RoundBill) -> None:
        before = self._unanswered.get(bill.round)
        self._unanswered[bill.round] = bill if before is None else before.plus(bill)
        _forget_oldest(self._unanswered)


def _forget_oldest(bills: dict[int, T]) -> None:
    while len(bills) > _MOST_ROUNDS:
        del bills[next(iter(bills))]


def _unknown(round: int) -> ProtocolError:
    return ProtocolError(f"the ledger has no bill of round {round}: it was never sent, or its bill was taken")
