"""The session that a conversation's next answer asks on: the one that is open, or a new one."""

from __future__ import annotations

from collections.abc import Callable

from uihlm_device.conversation import Conversation
from uihlm_device.outages.lasting_session import LastingSession
from uihlm_device.outages.outage import Outage
from uihlm_device.stream.session import Session, Stream
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger


def open_session(
    conversation: Conversation, connect: Callable[[], Stream], ledger: Ledger, clock: Clock, outage: Outage | None
) -> bool:
    """Open a session where a conversation has none, one that outlives its streams if there is a rule for outages.

    Returns whether there was none.
    """
    session: Session | None = conversation.session
    if session is None:
        session = connect() if outage is None else LastingSession(conversation, connect, ledger, clock, outage)
        conversation.opened(session, session.open(conversation.ids, conversation.key))
        return True
    if outage is not None and isinstance(session, LastingSession):
        session.go_on(outage)
    return False
