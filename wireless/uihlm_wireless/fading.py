"""Rayleigh fading: the draw of channel gains, and what they do to an uplink time.

Draw and apply are apart, so that a link can be replayed.

mode      gain                                     airtime of B bits
none      h = 1                                    Eq. (2)
block     one h ~ exp(1) a transmission            Eq. (2) at h; below the outage rate R₀ the transmission is lost after
                                                   B/R₀ seconds and sent again with a fresh h
slotted   a fresh h ~ exp(1) each coherence slot   slots until the bits are through, the last one in part

With one exponential gain an upload and no outage rate the mean of Eq. (2) is infinite (∫ e^(-h)/h dh diverges at 0), so
no average over uploads settles. The outage rate bounds one transmission, slots average the gain; both means are finite.
Nothing is ever lost for good: an outage costs seconds, never a token.

Gains are counter-based (uihlm_proto/randomness.py): key = hash(fading seed, session key), position = the message's
number in its session, index = slot or transmission. Slots count from the start of a message, not from a clock, so
that the same message takes the same airtime whenever it is sent.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError, UnavailableError
from uihlm_proto.randomness import KEY_BYTES, Role, exponentials
from uihlm_wireless.channel import RadioLink

FloatArray = npt.NDArray[np.float64]

# Returns the gains of slots (or transmissions) 0 … count-1; fewer only if the source has no more.
Gains = Callable[[int], FloatArray]

# At the default outage probability of 0.1, 64 lost transmissions in a row have probability 1e-64.
MAX_TRANSMISSIONS = 64
# 11.6 hours of 10 ms slots.
MAX_SLOTS = 1 << 22


class FadingMode(enum.Enum):
    """How the channel gain varies."""

    NONE = "none"
    BLOCK = "block"
    SLOTTED = "slotted"


class OutageError(UnavailableError):
    """The link is so weak that a message would never get through."""


def fading_key(fading_seed: int, session_key: bytes) -> bytes:
    """Return the 16-byte key of one session's gains: a hash of the fading seed and the session key."""
    message = b"uihlm.v1 fading" + fading_seed.to_bytes(8, "little", signed=True) + session_key
    return hashlib.blake2b(message, digest_size=KEY_BYTES).digest()


def draw_gains(key: bytes, upload: int, count: int) -> FloatArray:
    """Return gains h ~ exp(1) of slots 0 … count-1 of the session's `upload`-th message, `[count]`."""
    return exponentials(key, Role.FADING, upload, count)


def drawn_gains(key: bytes, upload: int) -> Gains:
    """Return the source of one message's drawn gains; it never runs dry."""
    return lambda count: draw_gains(key, upload, count)


def recorded_gains(trace: Sequence[float] | FloatArray) -> Gains:
    """Return a source that replays recorded gains, `[slots]`; it runs dry at their end."""
    recorded = np.asarray(trace, dtype=np.float64)
    if recorded.ndim != 1 or not np.isfinite(recorded).all() or (recorded < 0.0).any():
        raise InvalidRequestError("recorded gains must be one row of finite numbers of at least 0")
    return lambda count: recorded[:count]


def rate_at_outage(radio: RadioLink, probability: float = 0.1) -> float:
    """Return the rate in bit/s that a Rayleigh gain falls below with `probability`."""
    return radio.rate_bit_s(-math.log1p(-probability))


def airtime_s(
    bit: int,
    radio: RadioLink,
    mode: FadingMode,
    gains: Gains,
    *,
    coherence_s: float = 0.010,
    outage_rate_bit_s: float | None = None,
) -> float:
    """Return the seconds that `bit` bits occupy the link. Pure; `gains` is not asked for `none` or for 0 bits.

    Args:
        bit: bits to send.
        radio: the link.
        mode: how the gain varies.
        gains: source of gains.
        coherence_s: length of a slot (`slotted`).
        outage_rate_bit_s: the slowest rate sent at (`block`); None is the rate that the gain falls below once in ten.

    Raises:
        InvalidRequestError: for a negative number of bits, or recorded gains that end before the message does.
        OutageError: if the message is not through after 64 transmissions or 2^22 slots.
    """
    if mode is FadingMode.NONE or bit <= 0:
        return radio.uplink_time_s(bit)
    if mode is FadingMode.BLOCK:
        floor_bit_s = rate_at_outage(radio) if outage_rate_bit_s is None else outage_rate_bit_s
        return _block_s(bit, radio, gains, floor_bit_s)
    return _slotted_s(bit, radio, gains, coherence_s)


def _block_s(bit: int, radio: RadioLink, gains: Gains, outage_rate_bit_s: float) -> float:
    """One gain a transmission; those below the outage rate are lost after the longest time one may take."""
    lost_s = 0.0
    for transmission in range(MAX_TRANSMISSIONS):
        h = gains(transmission + 1)
        if h.size <= transmission:
            raise _ended(h.size)
        rate_bit_s = radio.rate_bit_s(float(h[transmission]))
        if rate_bit_s > 0.0 and rate_bit_s >= outage_rate_bit_s:
            return lost_s + bit / rate_bit_s
        lost_s += bit / outage_rate_bit_s
    raise OutageError(
        f"{MAX_TRANSMISSIONS} transmissions in a row fell below the outage rate of {outage_rate_bit_s:.0f} bit/s on a "
        f"link of {radio.rate_bit_s():.0f} bit/s ({radio.snr_db:.1f} dB): lower the outage rate or use a stronger link"
    )


def _slotted_s(bit: int, radio: RadioLink, gains: Gains, coherence_s: float) -> float:
    """Cumulate the bits of each slot until they are through; the last slot counts in part."""
    expected = bit / (radio.rate_bit_s() * coherence_s)
    slots = min(MAX_SLOTS, int(1.25 * expected) + 16)
    while True:
        h = gains(slots)
        rates_bit_s = radio.rates_bit_s(h)
        sent_bit = np.cumsum(rates_bit_s * coherence_s)
        if sent_bit.size and sent_bit[-1] >= bit:
            last = int(np.searchsorted(sent_bit, bit))
            before_bit = float(sent_bit[last - 1]) if last else 0.0
            return last * coherence_s + (bit - before_bit) / float(rates_bit_s[last])
        if h.size < slots:
            raise _ended(h.size)
        if slots >= MAX_SLOTS:
            raise OutageError(
                f"{bit} bits are not through after {slots} slots of {coherence_s} s on a link of "
                f"{radio.rate_bit_s():.3g} bit/s ({radio.snr_db:.1f} dB): use a stronger link"
            )
        # A counter-based source returns the same first gains again, so asking for twice as many continues the message.
        slots = min(MAX_SLOTS, 2 * slots)


def _ended(recorded: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"the recorded link ends after {recorded} gains, before the message is through: record a longer one"
    )
