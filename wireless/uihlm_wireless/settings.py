"""Everything about a link that a user may set, and the named links."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Protocol

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless import fading
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.trace import NS, Replay, start_ns
from uihlm_wireless.trace_file import LinkTrace

_PAPER_RADIO = RadioLink()


class Uplink(Protocol):
    """What one session's messages take on the air, in the order in which they are sent."""

    def airtime_s(self, bit: int, begins_at: float) -> float:
        """Return the seconds that the next message of `bit` bits takes, begun at a time on the link's clock."""


class AirtimeBasis(enum.Enum):
    """Which count of bits the uplink's airtime follows: the paper's model bits, or every byte on the wire."""

    MODEL = "model"
    WIRE = "wire"


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One device's link.

    Attributes:
        radio: the uplink; None is no radio at all: zero airtime.
        fading: how the uplink's gain varies.
        fading_seed: seed of the gains, and of the place in a looped trace where an answer starts; apart from the seed of the
            tokens.
        coherence_s: slot of `slotted` fading.
        outage_rate_bit_s: the slowest rate `block` fading sends at; None is the rate that the gain falls below once in
            ten.
        rtt_s: propagation and core network, both ways together.
        grant_delay_s: wait for an uplink grant, paid by each upload that finds the link idle.
        downlink: the downlink, without fading; None is free, as in the paper.
        devices: devices of the cell that share W evenly (both directions).
        airtime: what the uplink's airtime follows; the downlink's follows the wire.
        b_prob: bits billed a probability; None is what the codec sends.
        trace: what the uplink carried, replayed; then `radio` says transmit power alone, and there is no other fading.

    Raises:
        InvalidRequestError: for a value outside its range.
    """

    radio: RadioLink | None = _PAPER_RADIO
    fading: FadingMode = FadingMode.NONE
    fading_seed: int = 0
    coherence_s: float = 0.010
    outage_rate_bit_s: float | None = None
    rtt_s: float = 0.0
    grant_delay_s: float = 0.0
    downlink: RadioLink | None = None
    devices: int = 1
    airtime: AirtimeBasis = AirtimeBasis.MODEL
    b_prob: int | None = None
    trace: LinkTrace | None = None

    def __post_init__(self) -> None:
        if not -(2**63) <= self.fading_seed < 2**63:
            raise InvalidRequestError(f"fading_seed must fit 64 bits with sign, got {self.fading_seed}")
        _require_above_zero("coherence_s", self.coherence_s)
        if self.outage_rate_bit_s is not None:
            _require_above_zero("outage_rate_bit_s", self.outage_rate_bit_s)
        for name in ("rtt_s", "grant_delay_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise InvalidRequestError(f"{name} must be a finite number of seconds of at least 0, got {value}")
        if self.trace is not None and self.fading is not FadingMode.NONE:
            raise InvalidRequestError(
                f"a trace holds its own fading, got fading {self.fading.value} beside {self.trace.path}: leave one out"
            )
        if self.devices < 1:
            raise InvalidRequestError(f"devices must be at least 1, got {self.devices}")
        if self.b_prob is not None and self.b_prob < 1:
            raise InvalidRequestError(f"b_prob must be at least 1 bit, or None for the codec's own, got {self.b_prob}")

    def uplink_airtime_s(self, bit: int, session_key: bytes, message: int) -> float:
        """Return the seconds that `bit` bits of the session's `message`-th message occupy an uplink that is no trace.

        Args:
            bit: the bits that `airtime` names.
            session_key: the session's key, 16 bytes.
            message: the message's number in its session: Open is 0, uploads count from 1.
        """
        if self.radio is None:
            return 0.0
        return fading.airtime_s(
            bit,
            self.radio.shared_by(self.devices),
            self.fading,
            fading.drawn_gains(fading.fading_key(self.fading_seed, session_key), message),
            coherence_s=self.coherence_s,
            outage_rate_bit_s=self.outage_rate_bit_s,
        )

    def uplink(self, session_key: bytes, opened_at: float) -> Uplink:
        """Return the uplink as a session meets it whose Open, its message 0, is handed over at `opened_at`.

        Raises:
            TraceError: if the trace's file is gone or has changed.
        """
        if self.trace is None:
            return _Modelled(self, session_key)
        trace = self.trace.load()
        start = start_ns(trace, self.trace.end, self.fading_seed, session_key)
        return Replay(trace, self.trace.end, start, opened_at, self.devices)

    def trace_start_s(self, session_key: bytes) -> float | None:
        """Return where in the trace a session starts, seconds; None without a trace."""
        if self.trace is None:
            return None
        return start_ns(self.trace.load(), self.trace.end, self.fading_seed, session_key) / NS

    def downlink_airtime_s(self, bit: int) -> float:
        """Return the seconds that `bit` bits occupy the downlink."""
        return 0.0 if self.downlink is None else self.downlink.shared_by(self.devices).uplink_time_s(bit)

    def uplink_bit(self, model_bit: int, wire_bytes: int) -> int:
        """Return the bits that the uplink's airtime follows."""
        return model_bit if self.airtime is AirtimeBasis.MODEL else 8 * wire_bytes


class _Modelled:
    """An uplink whose rate follows from its radio, and from the message's number: never from a clock."""

    def __init__(self, settings: LinkSettings, session_key: bytes) -> None:
        self._settings = settings
        self._key = session_key
        self._messages = 0

    def airtime_s(self, bit: int, begins_at: float) -> float:
        """Return the seconds that the next message takes, whenever it begins."""
        taken_s = self._settings.uplink_airtime_s(bit, self._key, self._messages)
        self._messages += 1
        return taken_s


def _require_above_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise InvalidRequestError(f"{name} must be a finite number above 0, got {value}")


# The paper's link: 1 MHz at -8.9 dB, 174 kbit/s at h = 1; no propagation delay, free downlink.
_PAPER = LinkSettings()

# No link: no airtime, no delay. What is left is the two models' own time.
_NONE = LinkSettings(radio=None)

# A 5G NR cell at 300 m, 20 MHz: 19.9 dB and 133 Mbit/s up, 29.9 dB and 199 Mbit/s down; a core network 20 ms away and
# dynamic grants (4 ms). Noise is thermal plus a 5 dB (base station) or 5 dB (device) noise figure.
_NR = LinkSettings(
    radio=RadioLink(20e6, 23.0, -96.0, 300.0, 4.0),
    rtt_s=0.020,
    grant_delay_s=0.004,
    downlink=RadioLink(20e6, 33.0, -96.0, 300.0, 4.0),
)

# One 180 kHz low-power wide-area carrier 4.5 km out: -6.7 dB and 50 kbit/s up, 100 kbit/s down, RTT 150 ms.
_LPWAN = LinkSettings(
    radio=RadioLink(180e3, 23.0, -116.4, 4500.0, 4.0),
    rtt_s=0.150,
    downlink=RadioLink(180e3, 29.0, -114.0, 4500.0, 4.0),
)

_PROFILES = {"paper": _PAPER, "none": _NONE, "nr": _NR, "lpwan": _LPWAN}

PROFILE_NAMES = tuple(_PROFILES)


def profile(name: str) -> LinkSettings:
    """Return a named link; InvalidRequestError lists the known ones.

    `paper`: the paper's link. `none`: no link. `nr`: a 5G cell, 20 MHz at 20 dB, RTT 20 ms. `lpwan`: a thin one, 50
    kbit/s, RTT 150 ms.
    """
    if name not in _PROFILES:
        raise InvalidRequestError(f"unknown link profile {name!r}: choose one of {', '.join(PROFILE_NAMES)}")
    return _PROFILES[name]
