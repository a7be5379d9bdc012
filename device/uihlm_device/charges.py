"""What a token is charged: the bill of its round, the base station's cost of it, and device time spent in vain before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from uihlm_device.rules.importance import Importance
from uihlm_device.rules.policies import Evidence
from uihlm_device.stream.session import Cost, Verdict
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_wireless.ledger import RoundBill

_NO_BILL = RoundBill(0)


@dataclass(frozen=True, slots=True)
class Charge:
    """Costs of one or several rounds.

    Attributes:
        bill: on the link.
        cost: at the base station.
        draft_s: device seconds for drafts that did not come to stand.
    """

    bill: RoundBill = _NO_BILL
    cost: Cost = field(default_factory=Cost)
    draft_s: float = 0.0

    def plus(self, other: Charge) -> Charge:
        """Return the sum."""
        if other is NOTHING:
            # Most tokens have nothing to add: a sum of two bills is 14 fields, made anew.
            return self
        return Charge(self.bill.plus(other.bill), self.cost.plus(other.cost), self.draft_s + other.draft_s)


NOTHING = Charge()


class Purse:
    """What was spent and no token stands for yet: the next one carries it."""

    def __init__(self) -> None:
        self._owed = NOTHING

    def owe(self, charge: Charge) -> None:
        """Put a charge in."""
        self._owed = self._owed.plus(charge)

    def taken(self) -> Charge:
        """Return the sum, and forget it."""
        owed, self._owed = self._owed, NOTHING
        return owed


class Drafted(Protocol):
    """What a record tells of a draft; fields as in `uihlm_device.drafting.Draft`."""

    @property
    def x_d(self) -> float:
        """The drafter's probability of it."""

    @property
    def evidence(self) -> Evidence:
        """What the policy was told."""

    @property
    def attention(self) -> Importance | None:
        """Importance, where the policy asked."""

    @property
    def draft_s(self) -> float:
        """Seconds it took."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Where a token comes from in a round.

    Attributes:
        number: the round's number in its answer, from 1.
        verdict: the base station's word on the round.
        index: which of its drafts the token stands for; the number of drafts for a bonus.
    """

    number: int
    verdict: Verdict
    index: int


def token_record(
    position: int,
    token: int,
    origin: Origin,
    *,
    stop: bool,
    draft: Drafted | None,
    judged: Judged | None,
    charge: Charge,
) -> TokenRecord:
    """Return the record of one committed token."""
    evidence = None if draft is None else draft.evidence
    attention = None if draft is None else draft.attention

    def of(values: tuple[float, ...] | list[float]) -> float | None:
        return values[judged.index] if judged is not None and judged.index < len(values) else None

    verdict = None if judged is None else judged.verdict
    return TokenRecord(
        position=position,
        token=token,
        round=None if judged is None else judged.number,
        origin=origin,
        stop=stop,
        uploaded=draft is not None and judged is not None,
        x_d=None if draft is None else draft.x_d,
        y_d=None if verdict is None else of(list(verdict.y_d)),
        tv=None if verdict is None else of(list(verdict.tv)),
        reject_prob=None if verdict is None else of(list(verdict.reject_prob)),
        u=None if evidence is None else evidence.u,
        importance=None if attention is None else attention.count,
        attention_entropy=None if attention is None else attention.entropy_nat,
        attention_max=None if attention is None else attention.max_weight,
        draft_s=charge.draft_s + (0.0 if draft is None else draft.draft_s),
        forward_s=charge.bill.forward_s,
        queue_s=charge.cost.queue_s,
        link_s=charge.bill.link_s,
        airtime_s=charge.bill.airtime_s,
        model_bits=charge.bill.model_bit,
        payload_bits=charge.bill.payload_bit,
        wire_bytes=charge.bill.wire_bytes,
        uplink_wire_bytes=charge.bill.uplink_wire_bytes,
        llm_forwards=charge.cost.forwards,
        llm_positions=charge.cost.positions,
        basestation_j=charge.cost.energy_j,
    )
