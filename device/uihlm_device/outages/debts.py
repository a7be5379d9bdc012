"""What lost streams have cost and no verdict has carried yet: prefixes run again, requests that nobody answered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from uihlm_device.stream.session import Cost
from uihlm_proto.errors import ProtocolError
from uihlm_wireless.ledger import Ledger


class Debts:
    """Costs of a session that its next rounds take over: bills when they are sent, the base station's when answered."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rounds: list[int] = []
        self._cost = Cost()

    def owe(self, number: int, cost: Cost | None = None) -> None:
        """Note a round that no token stands for."""
        self._rounds.append(number)
        if cost is not None:
            self._cost = self._cost.plus(cost)

    def charge(self, number: int) -> None:
        """Let a round carry the bills."""
        for lost in self._rounds:
            self._ledger.fold(lost, number)
        self._rounds.clear()

    def taken(self) -> Cost:
        """Return the base station's costs, and forget them."""
        cost, self._cost = self._cost, Cost()
        return cost


def held_s(ledger: Ledger, rounds: Iterable[int]) -> float:
    """Return for how long the modelled link holds rounds back in real time, as far as that is known."""
    link_s = 0.0
    for number in rounds:
        with contextlib.suppress(ProtocolError):  # not on the air yet, or paid
            bill = ledger.bill(number)
            link_s += bill.link_s + bill.forward_s
    return link_s
