"""A link as it was: a trace of what it carried, replayed exactly.

    C(t) = bits that the link offers from the trace's start until t         rates: lines; packet opportunities: steps
    a message of b bits begun at t is through at   inf { s : C(s) ≥ C(t) + b }

Nothing is averaged or stepped over: rates are integrated, and an opportunity that comes while nothing is sent is lost. A
message that waited for another of its session goes on where that one stopped, within an opportunity too; so parts queued
one behind another are through when the whole would be, and no bit is carried twice.

Times are whole nanoseconds inside, so that an answer billed again from 0 meets the same opportunities as one in the middle
of a run.

Where in the trace an answer starts does not depend on when it is run: the trace runs on from the moment of its Open. Looped,
the place is drawn from the fading seed and the session key, the same under every policy; played once, it is the trace's
start, and after the trace's end nothing is carried any more (OutageError), since nothing is known of the link then.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.fading import OutageError, fading_key

NS = 1_000_000_000

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class TraceEnd(enum.Enum):
    """What comes after the end of a trace."""

    LOOP = "loop"
    ONCE = "once"


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """C(t) by its corners; between two of them it is a line, and two at one time are a step.

    Attributes:
        at_ns: times of the corners, `[n]`; starts at 0, never falls, ends above 0.
        offered_bit: C there, `[n]`; starts at 0, never falls, ends above 0.
    """

    at_ns: IntArray
    offered_bit: FloatArray

    @classmethod
    def of_rates(cls, begins_ns: IntArray, rates_bit_s: FloatArray) -> Trace:
        """Return the trace of rates `[n]` that each hold from their begin `[n]` to the next; the first begin counts as 0.

        The last rate holds as long as the one before it; a single one, a second at a time.
        """
        last_ns = begins_ns[-1] - begins_ns[-2] if begins_ns.size > 1 else NS
        at_ns = np.append(begins_ns, begins_ns[-1] + last_ns) - begins_ns[0]
        return cls(at_ns, np.append(0.0, np.cumsum(rates_bit_s * np.diff(at_ns) / NS)))

    @classmethod
    def of_opportunities(cls, at_ns: IntArray, each_bit: float) -> Trace:
        """Return the trace of packets of `each_bit` bits that may leave at given times `[n]`; the last is the end."""
        steps = np.repeat(np.arange(at_ns.size + 1, dtype=np.float64), 2)[:-1]
        return cls(np.append(0, np.repeat(at_ns, 2)), steps * each_bit)

    @property
    def length_s(self) -> float:
        """Its length in seconds."""
        return float(self.at_ns[-1]) / NS

    @property
    def mean_rate_bit_s(self) -> float:
        """Bits offered a second, over the whole of it."""
        return float(self.offered_bit[-1]) / self.length_s

    def offered_until(self, at_ns: int, end: TraceEnd) -> float:
        """Return C at a time, an opportunity at that very time included; it is missed by what begins then."""
        rounds, phase_ns = divmod(at_ns, int(self.at_ns[-1]))
        if end is TraceEnd.ONCE and rounds:
            return float(self.offered_bit[-1])
        after = int(np.searchsorted(self.at_ns, phase_ns, side="right"))
        from_ns, to_ns = int(self.at_ns[after - 1]), int(self.at_ns[after])
        from_bit, to_bit = float(self.offered_bit[after - 1]), float(self.offered_bit[after])
        share = (phase_ns - from_ns) / (to_ns - from_ns)
        return rounds * float(self.offered_bit[-1]) + from_bit + (to_bit - from_bit) * share

    def reached_at_ns(self, bit: float, end: TraceEnd) -> float | None:
        """Return when C reaches `bit` > 0, nanoseconds; None where the trace ends before."""
        whole_bit = float(self.offered_bit[-1])
        if end is TraceEnd.ONCE:
            if bit > whole_bit:
                return None
            rounds, rest_bit = 0, bit
        else:
            rounds = max(0, int(np.ceil(bit / whole_bit)) - 1)
            rest_bit = min(max(bit - rounds * whole_bit, 0.0), whole_bit)
        upper = max(1, int(np.searchsorted(self.offered_bit, rest_bit, side="left")))
        from_ns, to_ns = int(self.at_ns[upper - 1]), int(self.at_ns[upper])
        from_bit, to_bit = float(self.offered_bit[upper - 1]), float(self.offered_bit[upper])
        share = (rest_bit - from_bit) / (to_bit - from_bit) if to_bit > from_bit else 0.0
        return rounds * int(self.at_ns[-1]) + from_ns + (to_ns - from_ns) * share


def start_ns(trace: Trace, end: TraceEnd, seed: int, session_key: bytes) -> int:
    """Return where in the trace a session starts, nanoseconds: drawn where it loops, 0 where it is played once."""
    if end is TraceEnd.ONCE:
        return 0
    drawn = hashlib.blake2b(b"uihlm.v1 link trace" + fading_key(seed, session_key), digest_size=8).digest()
    return int.from_bytes(drawn, "little") * int(trace.at_ns[-1]) >> 64


class Replay:
    """One session's messages on a trace, in order.

    Attributes:
        opened_at: when the session's Open was handed over, seconds on the link's clock; there the trace is at its start.
    """

    def __init__(self, trace: Trace, end: TraceEnd, start_ns: int, opened_at: float, devices: int = 1) -> None:
        self.opened_at = opened_at
        self._trace = trace
        self._end = end
        self._start_ns = start_ns
        self._devices = devices
        # C at the last bit of the last message, and when that left.
        self._spent_bit = 0.0
        self._left_at = float("-inf")

    def airtime_s(self, bit: int, begins_at: float) -> float:
        """Return the seconds from a message's begin until its last bit is through, spells without any rate included.

        Args:
            bit: its bits; of `devices` that share the trace evenly, each bit costs so many.
            begins_at: seconds on the link's clock, at or after the last message's end.

        Raises:
            InvalidRequestError: for a negative number of bits.
            OutageError: if the trace, played once, ends before.
        """
        if bit < 0:
            raise InvalidRequestError(f"a message cannot have {bit} bits: give 0 or more")
        if bit == 0:
            return 0.0
        begin_ns = self._start_ns + round((begins_at - self.opened_at) * NS)
        queued = begins_at == self._left_at
        from_bit = self._spent_bit if queued else self._trace.offered_until(begin_ns, self._end)
        through_bit = from_bit + bit * self._devices
        reached_ns = self._trace.reached_at_ns(through_bit, self._end)
        if reached_ns is None:
            raise OutageError(
                f"the link's trace ends {self._trace.length_s:g} s after the answer began, before its next message of {bit} "
                "bits is through: give --link-trace-end loop, or a longer trace"
            )
        airtime_s = max(0.0, reached_ns - begin_ns) / NS
        self._spent_bit, self._left_at = through_bit, begins_at + airtime_s
        return airtime_s
