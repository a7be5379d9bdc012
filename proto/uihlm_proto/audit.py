"""The audit byte of a skipped token: its probability x_d under the drafter, in 8 bits, never too large.

    x̂(b) = exp(−16·(b/255)²)  for b < 255,   x̂(255) = 0            a byte's probability
    b(x) = the smallest b with x̂(b) ≤ x                                rounded down in probability

The rejection probability that the base station makes of it, 1 − min(1, y/x̂), is then never larger than the true one, and 0
where y = x. It is smaller by at most 1 − x̂/x. The steps of ln x grow with its distance from 0, because skipped tokens are
mostly likely ones: that bound is 0.026 for x ≥ 1/2, and 0.118 down to 1.3e-7. What is less likely gets the last byte, whose
x̂ of 0 says nothing: it counts as never rejected.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable

AUDIT_BIT = 8
# −ln of the least probability that a byte tells apart from 0.
_RANGE_NAT = 16.0
_LAST = 255

# −x̂ of each byte, so that it rises and can be searched.
_NEGATIVE = [-math.exp(-_RANGE_NAT * (b / _LAST) ** 2) for b in range(_LAST)] + [0.0]


def encode(x: float) -> int:
    """Return the byte of a probability in 0 … 1; what rounding carried above 1 counts as 1."""
    return bisect.bisect_left(_NEGATIVE, -x)


def decode(byte: int) -> float:
    """Return x̂ of a byte 0 … 255: at most the probability that was encoded."""
    return -_NEGATIVE[byte]


def reject_probability(x: float, y: float) -> float:
    """Return 1 − min(1, y/x), the chance that the LLM would have rejected a draft; 0 for an x of 0."""
    return max(0.0, 1.0 - y / x) if x > 0.0 else 0.0


def packed(probabilities: Iterable[float]) -> bytes:
    """Return the audit bytes of skipped tokens, in order."""
    return bytes(map(encode, probabilities))
