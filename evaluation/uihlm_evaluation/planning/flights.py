"""Drafts in flight: how long it is from one correction to the next.

    correction │ draft 1 · draft 2 · …          each is sent at once; the oldest verdict lands between two drafts, or is
               └ upload 1 → verdict 1, upload 2 → verdict 2, …          waited for where the window is full

A correction at verdict k drops all that came after it, and everything begins anew: k tokens in S_k seconds. Drafts stand with
probability α each, so with K the longest stretch looked at

    P(k) = α^(k−1)·(1 − α) for k < K, α^(K−1) for k = K         seconds a token = Σ P(k)·S_k ÷ Σ P(k)·k

S_k is what the rules of the link (uihlm_wireless/link.py) and of the loop (uihlm_device/decoder.py) make of it; nothing in it
is random. Uploads that a correction overtook cost airtime, and no forward: the base station knows them to be stale. Where the
uplink is slower than the drafter they keep it busy into the next stretch: that begins behind the mean backlog which such a
stretch leaves, a fixed point. Where the LLM runs on, the first forward of a stretch begins with the correction: half a round
trip, and on the mean what is left of the draft under way, before the device takes note of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# Stretches rarer than this are cut.
_RARE = 1e-4
# Of the fixed point: steps, and the share of a stretch that is close enough.
_ROUNDS = 30
_CLOSE = 1e-3


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
    """Means from one correction to the next: tokens, seconds, drafts made (each of them was sent), for how long the uplink is
    busy after it, and for how long its last verdict had been there when it was taken note of."""

    tokens: float
    seconds: float
    drafts: float
    backlog_s: float = 0.0
    late_s: float = 0.0


def stretch(acceptance: float, window: int, times: FlightTimes, longest: int) -> Stretch:
    """Return the means of a stretch with `window` uploads in flight; no stretch is longer than an answer."""
    mean = _after(Stretch(0.0, 0.0, 0.0), acceptance, window, times, longest)
    for _ in range(_ROUNDS):
        before = mean
        mean = _after(before, acceptance, window, times, longest)
        moved_s = abs(mean.backlog_s - before.backlog_s) + abs(mean.late_s - before.late_s)
        if moved_s <= _CLOSE * mean.seconds:
            break
    return mean


def _after(before: Stretch, acceptance: float, window: int, times: FlightTimes, longest: int) -> Stretch:
    """Return the means of a stretch that follows such a one."""
    uplink_free = before.backlog_s
    now = downlink_free = left = late = 0.0
    # It answered with the correction.
    basestation_free = -times.downlink_s - times.rtt_s / 2 - before.late_s
    verdicts: deque[float] = deque()
    drafts = landed = 0
    tokens = seconds = made = 0.0
    reached = 1.0
    while landed < longest and reached > _RARE:
        if verdicts and (len(verdicts) >= window or now >= verdicts[0]):
            arrived = verdicts.popleft()
            now = max(now, arrived)
            landed += 1
            last = landed == longest or reached * acceptance <= _RARE
            ends = reached * (1.0 if last else 1.0 - acceptance)
            tokens += ends * landed
            seconds += ends * now
            made += ends * drafts
            left += ends * max(0.0, uplink_free - now)
            late += ends * (now - arrived)
            reached -= ends
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
    return Stretch(tokens, seconds, made, left, late)
