"""What an answer's skipped tokens risked: their rejection probabilities, as the base station tells them.

    risk of skipping = Σ over skipped tokens (1 − min(1, y_d/x_d)) ÷ all tokens        DESIGN, `skipped_risk`

A byte a skipped token rides on the next upload (uihlm_proto/audit.py); its verdict brings the probabilities. By then those
tokens are yielded, so they stand here, by position, and not in the token's record. What was skipped after the last upload is
audited by a message of its own, which is no part of the bill.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from uihlm_proto.audit import AUDIT_BIT, packed
from uihlm_proto.errors import ProtocolError


@dataclass(slots=True)
class AuditLedger:
    """The audits of one answer.

    Attributes:
        reject_prob: rejection probability of each audited token, by position.
        sent_bit: audit bits on uploads that were billed, those of dropped uploads included.
    """

    reject_prob: dict[int, float] = field(default_factory=dict)
    sent_bit: int = 0
    _x_d: dict[int, float] = field(default_factory=dict)

    def note(self, position: int, x_d: float) -> None:
        """Note a draft's probability; one drafted anew at the same position takes its place."""
        self._x_d[position] = x_d

    def bytes_of(self, positions: range) -> bytes:
        """Return the audit bytes of the tokens skipped there."""
        return packed(self._x_d[position] for position in positions)

    def billed(self, positions: range) -> bytes:
        """Return the bytes of tokens that go with a billed upload, and count them."""
        self.sent_bit += AUDIT_BIT * len(positions)
        return self.bytes_of(positions)

    def take(self, positions: range, reject_prob: Sequence[float]) -> None:
        """Note a verdict's word on the tokens skipped there.

        Raises:
            ProtocolError: if it is not one probability a token.
        """
        if len(reject_prob) != len(positions) or not all(0.0 <= p <= 1.0 for p in reject_prob):
            raise ProtocolError(
                f"the base station was asked to audit {len(positions)} tokens and answered {list(reject_prob)}: "
                "it must speak audits, or leave out --audit and --risk"
            )
        self.reject_prob.update(zip(positions, reject_prob, strict=True))

    @property
    def audited(self) -> int:
        """How many skipped tokens were audited."""
        return len(self.reject_prob)

    @property
    def risk_sum(self) -> float:
        """Their rejection probabilities, summed."""
        return math.fsum(self.reject_prob.values())
