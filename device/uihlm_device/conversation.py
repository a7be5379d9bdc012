"""The state of one conversation on the device: its ids, and how far drafter and base station know them."""

from __future__ import annotations

from dataclasses import dataclass, field

from uihlm_device.audit import AuditLedger
from uihlm_device.drafters.drafter import Drafter
from uihlm_device.stream.session import Cost, Session, Upload
from uihlm_proto.errors import ProtocolError


@dataclass(slots=True)
class Conversation:
    """Ids are the only history: nothing is tokenised twice, and a cache is right if it holds a prefix of them.

    Attributes:
        key: session key of every draw.
        ids: every committed id, prompt first; an id's index is its position.
        answer_start: where the answer under way starts; before it lie prompt, earlier answers and chat turns.
        drafter: whose cache holds a prefix of the ids; a drafter serves one conversation at a time.
        drafted: how many ids that cache holds.
        told: how many ids the base station knows.
        epoch: corrections the base station made on the open session.
        session: the open stream, if any.
        open_round: round of its Open.
        open_cost: what the prefill of the open session cost the base station, once known.
        audit: of the latest answer's skipped tokens.
        lost_links: how often its stream was lost, by a device that then waits or goes on alone.
    """

    key: bytes
    ids: list[int] = field(default_factory=list)
    answer_start: int = 0
    drafter: Drafter | None = None
    drafted: int = 0
    told: int = 0
    epoch: int = 0
    session: Session | None = None
    open_round: int | None = None
    open_cost: Cost | None = None
    audit: AuditLedger = field(default_factory=AuditLedger)
    lost_links: int = 0

    def extend(self, turn_ids: list[int]) -> None:
        """Append a prompt or a chat turn; the next answer starts after it."""
        self.ids.extend(turn_ids)
        self.answer_start = len(self.ids)

    def use(self, drafter: Drafter) -> None:
        """Draft with this drafter from now on; another one's cache is of no use to it."""
        if self.drafter is not drafter:
            self.drafter, self.drafted = drafter, 0

    def opened(self, session: Session, round_number: int) -> None:
        """Note a stream whose Open carried every id so far."""
        self.session, self.open_round, self.open_cost = session, round_number, None
        self.told, self.epoch = len(self.ids), 0

    @property
    def room(self) -> int | None:
        """Ids that the open session may hold beyond those of now; None while the base station has not said."""
        most = None if self.session is None else self.session.max_context
        return None if most is None else max(0, most - len(self.ids))

    def asked(self) -> Session:
        """Return its session; ProtocolError where a policy asks that was not to."""
        if self.session is None:
            raise ProtocolError("a policy that writes on the device alone asked for an upload")
        return self.session

    def unsent(self) -> tuple[list[int], list[int]]:
        """Return the ids the base station has not seen, split where the answer starts: context, skipped."""
        split = max(self.told, self.answer_start)
        return self.ids[self.told : split], self.ids[split:]

    def audit_tail(self, session: Session) -> None:
        """Have the tokens audited that were skipped after the last upload: no part of the bill, and the clock stands still."""
        context_ids, skipped_ids = self.unsent()
        if not skipped_ids:
            return
        end = len(self.ids)
        positions = range(end - len(skipped_ids), end)
        upload = Upload(self.epoch, end, context_ids, skipped_ids, audit=self.audit.bytes_of(positions))
        self.audit.take(positions, session.verdict(session.upload(upload)).skipped_reject_prob)
        self.told = end

    def end_session(self) -> None:
        """Close the stream, if any; the next answer opens another with every id as its prefix."""
        if self.session is not None:
            session, self.session = self.session, None
            session.close()
