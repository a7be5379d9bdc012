"""Drafts in flight: how long it is from one correction to the next.

    correction │ draft 1 · draft 2 · …          each is sent at once; the oldest verdict lands between two drafts, or is
               └ upload 1 → verdict 1, upload 2 → verdict 2, …          waited for where the window is full

A correction at verdict k drops all that came after it, and everything begins anew: k tokens in S seconds. Drafts stand with
probability α each, so with K the longest stretch looked at

    P(k) = α^(k−1)·(1 − α) for k < K, α^(K−1) for k = K         seconds a token = E[S] ÷ E[k]

S is what the rules of the link (uihlm_wireless/link.py) and of the loop (uihlm_device/decoder.py) make of k and of what the
stretch before has left: an uplink that is still busy with uploads which the correction overtook (they cost airtime, and no
forward: the base station knows them to be stale), and, where the LLM runs on, a forward that began with that correction, half
a round trip and what was left of a draft before the device took note of it. So stretches are walked one after another, their
k spread over P as evenly as a sequence can be: nothing is random, and the same conditions give the same seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

# Stretches that are walked, and the step from one share of them to the next: neighbours in the Fibonacci sequence, so that long
# and short ones come as evenly mixed as they can.
_STRETCHES = 233
_STEP = 144


@dataclass(frozen=True, slots=True)
class FlightTimes:
    """Seconds of the parts of a round: a draft, an uplink grant, the air, the round trip, a forward, the downlink.

    `run_on` is whether a forward begins with the verdict before it, or with its upload.
    """

    draft_s: float
    grant_s: float
    airtime_s: float
    rtt_s: float
    forward_s: float
    downlink_s: float
    run_on: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """Means from one correction to the next: tokens, seconds, drafts made (each of them was sent)."""

    tokens: float
    seconds: float
    drafts: float


def stretch(acceptance: float, window: int, times: FlightTimes, longest: int) -> Stretch:
    """Return the means of a stretch with `window` uploads in flight; no stretch is longer than an answer."""
    tokens = drafts = 0
    seconds = busy_s = late_s = 0.0
    for number in range(_STRETCHES):
        length = _length(acceptance, (number * _STEP % _STRETCHES + 0.5) / _STRETCHES, longest)
        took_s, made, busy_s, late_s = _walk(length, window, times, busy_s, late_s)
        tokens, seconds, drafts = tokens + length, seconds + took_s, drafts + made
    return Stretch(tokens / _STRETCHES, seconds / _STRETCHES, drafts / _STRETCHES)


def _length(acceptance: float, share: float, longest: int) -> int:
    """Return the length that this share of stretches does not exceed."""
    if acceptance <= 0.0 or acceptance >= 1.0:
        return 1 if acceptance <= 0.0 else longest
    return min(longest, 1 + int(math.log1p(-share) / math.log(acceptance)))


def _walk(
    length: int, window: int, times: FlightTimes, busy_s: float, late_s: float
) -> tuple[float, int, float, float]:
    """Go from a correction to the one at verdict `length`.

    Args:
        length: verdicts up to the next correction.
        window: uploads in flight.
        times: of the parts of a round.
        busy_s: how long the uplink is busy yet.
        late_s: for how long the correction had been there when it was taken note of.

    Returns seconds, drafts made, and the last two as the next stretch finds them.
    """
    now = downlink_free = 0.0
    uplink_free, basestation_free = busy_s, -times.downlink_s - times.rtt_s / 2 - late_s
    verdicts: deque[float] = deque()
    drafts = landed = 0
    while True:
        if verdicts and (len(verdicts) >= window or now >= verdicts[0]):
            arrived = verdicts.popleft()
            now = max(now, arrived)
            landed += 1
            if landed == length:
                return now, drafts, max(0.0, uplink_free - now), now - arrived
        else:
            now += times.draft_s
            drafts += 1
            # The grant is asked for only where the link is idle.
            uplink_free = (uplink_free if uplink_free > now else now + times.grant_s) + times.airtime_s
            arrival = uplink_free + times.rtt_s / 2
            if times.run_on:
                basestation_free = max(arrival, basestation_free + times.forward_s)
            else:
                basestation_free = max(arrival, basestation_free) + times.forward_s
            downlink_free = max(basestation_free, downlink_free) + times.downlink_s
            verdicts.append(downlink_free + times.rtt_s / 2)
