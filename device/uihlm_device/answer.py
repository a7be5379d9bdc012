"""The state of one answer under way: what is committed, what is tentative, and what was spent in vain."""

from __future__ import annotations

from dataclasses import dataclass, field

from uihlm_device.charges import Charge, Purse
from uihlm_device.conversation import Conversation
from uihlm_device.drafting import Drafting
from uihlm_device.flights import Ahead, Flight
from uihlm_wireless.ledger import Ledger


@dataclass(slots=True)
class Answer:
    """One answer.

    Attributes:
        conversation: whose ids it continues.
        drafting: makes its drafts.
        limit: most tokens it may have.
        draft_length: drafts an upload carries at most.
        draft_p_min: an upload ends with a draft less likely than this.
        stop_ids: ids that end it.
        written: tokens committed.
        rounds: uploads made.
        finished: whether it has ended.
        ahead: what is tentative.
        purse: costs of what came to nothing, for the next token to carry.
        forsaken: uploads whose answers will be of no use, not read yet.
    """

    conversation: Conversation
    drafting: Drafting
    limit: int
    draft_length: int
    draft_p_min: float
    stop_ids: frozenset[int]
    written: int = 0
    rounds: int = 0
    finished: bool = False
    ahead: Ahead = field(default_factory=Ahead)
    purse: Purse = field(default_factory=Purse)
    forsaken: list[Flight] = field(default_factory=list)

    def ids(self) -> list[int]:
        """Return every id, the tentative ones included."""
        return [*self.conversation.ids, *self.ahead.tokens()]

    def unsent(self) -> tuple[list[int], list[int], int]:
        """Return what the next upload must tell before its block: context ids, skipped ids, position of its first draft."""
        conversation = self.conversation
        ids = self.ids()
        first = len(ids) - len(self.ahead.block)
        split = max(conversation.told, conversation.answer_start)
        return ids[conversation.told : split], ids[split:first], first

    @property
    def most(self) -> int:
        """Most tokens it may have: the limit, or fewer where the base station's session is full before that."""
        room = self.conversation.room
        return self.limit if room is None else min(self.limit, self.written + room)

    def block_size(self) -> int:
        """Return how many drafts the block under way is to have.

        With more than one a bonus follows, and that too must fit the limit.
        """
        before = self.written + self.ahead.count() - len(self.ahead.block)
        return min(self.draft_length, max(1, self.most - before - 1))

    def block_is_over(self) -> bool:
        """Return whether the block under way goes out: it is full, or what followed its last draft would hardly stand."""
        last = self.ahead.block[-1]
        full = len(self.ahead.block) >= self.block_size()
        return full or last.token in self.stop_ids or last.x_d < self.draft_p_min

    def is_last(self) -> bool:
        """Return whether the youngest tentative token is the last that this answer may have."""
        return self.written + self.ahead.count() >= self.most

    def must_land(self, window: int) -> bool:
        """Return whether there is nothing to do but wait for the oldest upload's verdict."""
        if not self.ahead.flights:
            return False
        youngest = self.ahead.flights[-1]
        # The bonus that a draft would have to follow takes a place too.
        unguessed = youngest.guess is None and youngest.earns_bonus(self.stop_ids)
        return (
            len(self.ahead.flights) >= window
            or self.written + self.ahead.count() + unguessed >= self.most
            or any(token in self.stop_ids for token in self.ahead.tokens())
        )

    def ends_with(self, token: int) -> bool:
        """Return whether this token, written next, is the last."""
        return token in self.stop_ids or self.written + 1 >= self.most

    def commit(self, token: int) -> tuple[int, bool]:
        """Append a token to the conversation; return its position and whether it is a stop token."""
        self.finished = self.ends_with(token)
        self.written += 1
        self.conversation.ids.append(token)
        return len(self.conversation.ids) - 1, token in self.stop_ids

    def settle_forsaken(self, ledger: Ledger, last: bool) -> None:
        """Charge the answers to given-up uploads that have come; before the `last` token wait for all of them."""
        session = self.conversation.session
        waiting = []
        for flight in self.forsaken:
            if flight.verdict is None and (last or (session is not None and session.arrived(flight.round))):
                flight.verdict = self.conversation.asked().verdict(flight.round)
            if flight.verdict is None:
                waiting.append(flight)
            else:
                self.purse.owe(Charge(ledger.pop(flight.round), flight.verdict.cost))
        self.forsaken = waiting
