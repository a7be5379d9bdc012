"""Uploads whose verdicts are not there yet, and the tokens drafted on the assumption that they will be good.

    committed ids │ tentative tokens: skipped · drafts in flight · a guessed bonus · drafts of the block being made
                  └ stands only if every verdict before it accepts, and every guess is right

A verdict commits the front of the tentative tokens, or drops all that stands on what it corrected.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from uihlm_device.drafting import Draft
from uihlm_device.stream.session import Verdict
from uihlm_proto.errors import ProtocolError


@dataclass(slots=True)
class Flight:
    """An upload on its way.

    Attributes:
        round: its number on the connection.
        number: its number in the answer, from 1.
        drafts: what it carries.
        audited: positions of the skipped tokens that went with it to be audited.
        guess: the bonus token assumed after its drafts; None while nothing was drafted on.
        guess_sent: whether a later upload was built on the guess.
        verdict: the answer, once read.
    """

    round: int
    number: int
    drafts: list[Draft]
    audited: range = range(0)
    guess: int | None = None
    guess_sent: bool = False
    verdict: Verdict | None = None

    def earns_bonus(self, stop_ids: frozenset[int]) -> bool:
        """Return whether a bonus token follows if every draft stands: two or more, and no end among them."""
        return len(self.drafts) > 1 and self.drafts[-1].token not in stop_ids

    def check(self, verdict: Verdict, stop_ids: frozenset[int]) -> None:
        """Raise ProtocolError if the verdict is no answer to these drafts."""
        stands = verdict.accepted == len(self.drafts)
        wanted = not stands or self.earns_bonus(stop_ids)
        if verdict.stale or verdict.accepted > len(self.drafts) or (verdict.token is not None) != wanted:
            raise ProtocolError(f"the base station's verdict on {len(self.drafts)} drafts makes no sense: {verdict}")


@dataclass(slots=True)
class Ahead:
    """The tentative tokens after the committed ones, in order.

    Attributes:
        flights: uploads without verdict, oldest first.
        block: drafts that wait for their block to be full.
    """

    flights: deque[Flight] = field(default_factory=deque)
    _behind: deque[deque[Draft]] = field(default_factory=lambda: deque([deque()]))
    block: list[Draft] = field(default_factory=list)

    def skip(self, draft: Draft) -> None:
        """Put a draft that is not uploaded behind the youngest flight."""
        self._behind[-1].append(draft)

    def launch(self, flight: Flight) -> None:
        """Put the block in flight."""
        if self.flights and self.flights[-1].guess is not None:
            self.flights[-1].guess_sent = True
        self.flights.append(flight)
        self._behind.append(deque())
        self.block = []

    def land(self) -> Flight:
        """Take the oldest flight; what was skipped behind it can be committed if it stands."""
        self._behind.popleft()
        return self.flights.popleft()

    def behind_landed(self) -> deque[Draft]:
        """Return the drafts skipped right behind the flight that landed last; whoever commits one takes it out."""
        return self._behind[0]

    def tokens(self) -> Iterator[int]:
        """Yield the tentative tokens from the first to the last."""
        yield from (draft.token for draft in self._behind[0])
        for flight, behind in zip(self.flights, itertools.islice(self._behind, 1, None), strict=True):
            yield from (draft.token for draft in flight.drafts)
            if flight.guess is not None:
                yield flight.guess
            yield from (draft.token for draft in behind)
        yield from (draft.token for draft in self.block)

    def count(self) -> int:
        """Return how many tentative tokens there are."""
        guesses = sum(flight.guess is not None for flight in self.flights)
        return guesses + len(self.block) + sum(map(len, (*self._behind, *(flight.drafts for flight in self.flights))))

    def drafts(self) -> Iterator[Draft]:
        """Yield every tentative draft."""
        for group in (*self._behind, *(flight.drafts for flight in self.flights), self.block):
            yield from group

    def drop(self) -> list[Flight]:
        """Forget everything tentative; return the flights whose verdicts will be of no use."""
        lost = list(self.flights)
        self.flights.clear()
        self._behind = deque([deque()])
        self.block = []
        return lost
