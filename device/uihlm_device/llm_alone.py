"""Policy `llm`: the base station writes alone, the device prints; one request, and a verdict a token or every few."""

from __future__ import annotations

from collections.abc import Generator

from uihlm_device.charges import NOTHING, Charge, Judged, token_record
from uihlm_device.conversation import Conversation
from uihlm_device.stream.session import Session, Upload
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.errors import ProtocolError
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger


def write(
    conversation: Conversation,
    session: Session,
    limit: int,
    stream_interval: int,
    stop_ids: frozenset[int],
    clock: Clock,
    ledger: Ledger,
) -> Generator[TokenRecord]:
    """Have up to `limit` tokens written, `stream_interval` of them a verdict, and yield a record of each; see `Decoder.answer`.

    Raises:
        ProtocolError: for a verdict without a token.
    """
    context_ids, skipped_ids = conversation.unsent()
    unsent = [*context_ids, *skipped_ids]
    upload = Upload(conversation.epoch, len(conversation.ids), unsent, generate=limit, stream_interval=stream_interval)
    round_number = session.upload(upload)
    while True:
        verdict = session.verdict(round_number)
        bill = ledger.pop(round_number)
        # The bill knows when this token came; the clock knows of the latest, which may have been read ahead.
        clock.wait_until(bill.reached_at)
        if verdict.token is None:
            raise ProtocolError("the base station was asked to write and sent a verdict without a token")
        charge, judged = Charge(bill, verdict.cost), Judged(1, verdict, 0)
        for token in (*verdict.written, verdict.token):
            position = len(conversation.ids)
            conversation.ids.append(token)
            conversation.told = len(conversation.ids)
            stop = token in stop_ids
            yield token_record(position, token, Origin.LLM, stop=stop, draft=None, judged=judged, charge=charge)
            # What a verdict cost stands on its first token.
            charge = NOTHING
            if stop:
                break
        if verdict.last:
            return
        if stop:
            # It stops a chat here and not there: the base station writes on, so this stream is of no more use.
            conversation.end_session()
            return
