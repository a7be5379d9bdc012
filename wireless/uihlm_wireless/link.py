"""When things happen on one device's link: pure scheduling, no gRPC and no sleeping.

    an upload handed over at `now`, on a session whose Open left at t₀:
        send     = max(now, t₀ + RTT, link free)  + grant delay if the link is idle then
        arrival  = send + airtime + RTT/2                              the link is free again at send + airtime
        forward  = max(arrival, base station free) … + forward time    the base station is free at its end
        verdict  = forward's end + RTT/2 + downlink time

A forward that ran on (`Upload.run_on`) needed no upload to begin:
        forward  = the verdict before … + forward time                 and the verdict waits for the upload's arrival
A stale upload is answered as it arrives, and delays nothing.

Open costs one RTT. Its prefill keeps the base station busy for this session from t₀ + RTT/2 on, while the device does
its own. Open asks for no grant: that belongs to connecting. With `generate = n` grant and RTT are paid once; every
forward starts where the last one ended. Other sessions' load on the base station shows only where time is real: under
an enforced clock the reported queue time delays the forward.

The bill is computed from the same model but never from a measured time: in a loop that waits for each verdict it is the
same under every clock, although the instants differ with the compute in between. A trace is the exception: what it carries
depends on when a message begins, so there the bill repeats only where compute times are fixed.
"""

from __future__ import annotations

import math

from uihlm_proto.errors import ProtocolError
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import RoundBill
from uihlm_wireless.settings import LinkSettings, Uplink
from uihlm_wireless.timing import MEASURED, TimingProfile

_MOST_BROKEN_OFF = 1024


class Link:
    """One device's radio link: free or busy until some time, whatever the session.

    Attributes:
        settings: the link.
        clock: the clock its instants are on.
        timing: what a forward is charged.
    """

    def __init__(self, settings: LinkSettings, clock: Clock, timing: TimingProfile = MEASURED) -> None:
        self.settings = settings
        self.clock = clock
        self.timing = timing
        self._uplink_free_at = 0.0
        self._downlink_free_at = 0.0
        # By session key: the uplinks of streams that broke off.
        self._broken_off: dict[bytes, Uplink] = {}

    def open(self, round: int, now: float, wire_bytes: int, session_key: bytes, *, again: bool = False) -> Session:
        """Send an Open of `wire_bytes` at `now` and return its session; `session.request_bill` is what sending cost.

        A stream opened `again`, in the place of one that broke off under its key, finds trace and fading further on.
        """
        bit = self.settings.uplink_bit(0, wire_bytes)
        lost = self._broken_off.get(session_key) if again else None
        uplink = lost or self.settings.uplink(session_key, now)
        left_at, wait_s, airtime_s = self._occupy_uplink(now, 0.0, uplink, bit)
        self._broken_off.pop(session_key, None)
        bill = RoundBill(
            round,
            uplink_wire_bytes=wire_bytes,
            airtime_s=airtime_s,
            wait_s=wait_s,
            rtt_s=self.settings.rtt_s,
            link_s=wait_s + airtime_s + self.settings.rtt_s,
        )
        return Session(self, session_key, round, left_at, bill, uplink)

    def broke_off(self, session: Session) -> None:
        """Say that a session's stream was lost: opened again, it begins neither trace nor fading anew."""
        self._broken_off[session._key] = session._uplink
        # Of most of those given up nobody opens another stream.
        while len(self._broken_off) > _MOST_BROKEN_OFF:
            del self._broken_off[next(iter(self._broken_off))]

    def _occupy_uplink(self, ready_at: float, grant_s: float, uplink: Uplink, bit: int) -> tuple[float, float, float]:
        """Take the uplink for one message of so many bits.

        Returns when its last bit leaves, how long it waited for earlier ones, and its airtime. The grant is asked for only
        where the link is idle: a message that queues rides on the report of the last.
        """
        wait_s = max(0.0, self._uplink_free_at - ready_at)
        begins_at = self._uplink_free_at if wait_s > 0.0 else ready_at + grant_s
        airtime_s = uplink.airtime_s(bit, begins_at)
        self._uplink_free_at = begins_at + airtime_s
        return self._uplink_free_at, wait_s, airtime_s

    def _occupy_downlink(self, ready_at: float, airtime_s: float) -> float:
        """Take the downlink for one answer; return when its last bit leaves."""
        self._downlink_free_at = max(ready_at, self._downlink_free_at) + airtime_s
        return self._downlink_free_at


class Session:
    """One stream on a link.

    Attributes:
        request_bill: what the latest request cost to send.
    """

    def __init__(
        self, link: Link, session_key: bytes, round: int, left_at: float, bill: RoundBill, uplink: Uplink
    ) -> None:
        self.request_bill = bill
        self._uplink = uplink
        self._link = link
        self._key = session_key
        self._round_trip_done_at = left_at + link.settings.rtt_s
        self._arrival_at = {round: left_at + link.settings.rtt_s / 2}
        self._basestation_free_at = self._arrival_at[round]

    def arrival_at(self, round: int) -> float:
        """Return when the request of `round` reaches the base station."""
        if round not in self._arrival_at:
            raise ProtocolError(f"the base station answered round {round}, which this session has not sent")
        return self._arrival_at[round]

    def upload(self, round: int, now: float, model_bit: int, payload_bit: int, wire_bytes: int) -> float:
        """Send an upload handed over at `now`; return when it reaches the base station."""
        settings = self._link.settings
        left_at, wait_s, airtime_s = self._link._occupy_uplink(
            max(now, self._round_trip_done_at),
            settings.grant_delay_s,
            self._uplink,
            settings.uplink_bit(model_bit, wire_bytes),
        )
        grant_s = 0.0 if wait_s > 0.0 else settings.grant_delay_s
        self._arrival_at[round] = left_at + settings.rtt_s / 2
        self.request_bill = RoundBill(
            round,
            model_bit,
            payload_bit,
            uplink_wire_bytes=wire_bytes,
            airtime_s=airtime_s,
            wait_s=wait_s,
            grant_s=grant_s,
            rtt_s=settings.rtt_s,
            link_s=wait_s + grant_s + airtime_s + settings.rtt_s,
        )
        return self._arrival_at[round]

    def ready(
        self, round: int, wire_bytes: int, forward_s: float, queue_s: float = 0.0, *, positions: int = 1
    ) -> tuple[float, RoundBill]:
        """Take the answer to Open; return when it reaches the device, and what it cost. `forward_s` is the prefill."""
        return self._answer(round, wire_bytes, forward_s, queue_s, positions)

    def verdict(
        self,
        round: int,
        wire_bytes: int,
        forward_s: float,
        queue_s: float = 0.0,
        *,
        positions: int = 1,
        further: int = 0,
        ran_on: bool = False,
        stale: bool = False,
    ) -> tuple[float, RoundBill]:
        """Take an answer to an upload; return when it reaches the device, and what it cost.

        Args:
            round: the upload's.
            wire_bytes: the answer's.
            forward_s: LLM forward as measured; a fixed timing profile overrides it.
            queue_s: wait for the engine as measured; counts under an enforced clock alone.
            positions: what the forward ran; 0 where the LLM ran nothing for it (a stale upload, or a row left from the
                prefill): then no forward is charged, whatever the profile says.
            further: of these, how many were forwards of their own: with `generate`, one for each token before the last.
            ran_on: whether the forward began with the verdict before.
            stale: whether this is none: the upload was for a text that a correction has overtaken.

        Raises:
            ProtocolError: for a round never sent, or a reported time that is negative or not finite.
        """
        return self._answer(round, wire_bytes, forward_s, queue_s, positions, further, ran_on, stale)

    def _answer(
        self,
        round: int,
        wire_bytes: int,
        forward_s: float,
        queue_s: float,
        positions: int,
        further: int = 0,
        ran_on: bool = False,
        stale: bool = False,
    ) -> tuple[float, RoundBill]:
        for name, seconds in (("forward_s", forward_s), ("queue_s", queue_s)):
            if not (math.isfinite(seconds) and seconds >= 0.0):
                raise ProtocolError(
                    f"the base station reports {name} = {seconds} for round {round}: expected 0 or more"
                )
        arrival_at = self.arrival_at(round)
        charged_s = self._link.timing.charged_s(forward_s, positions, further)
        waited_s = 0.0 if self._link.clock.simulated else queue_s
        if ran_on:
            answered_at = max(arrival_at, self._basestation_free_at + waited_s + charged_s)
        else:
            answered_at = max(arrival_at + waited_s, self._basestation_free_at) + charged_s
        if not stale:
            self._basestation_free_at = answered_at
        downlink_s = self._link.settings.downlink_airtime_s(8 * wire_bytes)
        reached_at = self._link._occupy_downlink(answered_at, downlink_s) + self._link.settings.rtt_s / 2
        bill = RoundBill(
            round,
            downlink_wire_bytes=wire_bytes,
            downlink_s=downlink_s,
            link_s=downlink_s,
            forward_s=charged_s,
            reached_at=reached_at,
        )
        return reached_at, bill
