"""The interceptor on the client's channel: the only place that knows the link.

It weighs every message, schedules it on the link and charges the ledger. Under a simulated clock nothing waits: the
answer comes when it really comes, and the clock is told when the device may see it. Under an enforced clock each
request is held until the link would have delivered it, and each answer until the link would have brought it back.

An upload that asks for nothing but an audit is measurement: it passes at once and is neither billed nor timed.

Requests are taken from the caller as soon as it offers them and wait here, not there: an upload made while another one
is in the air is stamped with the time it was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from uihlm_proto.codecs import Codec, codec
from uihlm_proto.encoded import size_of
from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_proto.metadata import AGAIN, VERIFY_METHOD
from uihlm_proto.v1.verification_pb2 import Cost, VerifyRequest, VerifyResponse
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link, Session
from uihlm_wireless.meter import is_audit_alone, upload_bit, wire_bytes


class LinkInterceptor(grpc.aio.StreamStreamClientInterceptor):
    """Puts the Verify streams of a channel on a radio link; other methods pass untouched.

    Calls must be iterator-style: an async iterator of requests in, `async for` over the answers out. An exception in
    the caller's iterator, or one of the link's own (OutageError, InvalidRequestError, ProtocolError), is raised from
    the iteration over the answers.

    Attributes:
        link: the link, its clock and timing.
        ledger: where rounds are charged.
    """

    def __init__(self, link: Link, ledger: Ledger) -> None:
        self.link = link
        self.ledger = ledger

    async def intercept_stream_stream(
        self,
        continuation: Callable[..., Awaitable[Any]],
        client_call_details: Any,
        request_iterator: Any,
    ) -> Any:
        """Wrap one call; called by gRPC."""
        method = client_call_details.method
        if (method.decode() if isinstance(method, bytes) else method) != VERIFY_METHOD:
            return await continuation(client_call_details, request_iterator)
        if not isinstance(request_iterator, AsyncIterable):
            raise InvalidRequestError("Verify on a metered channel needs an async iterator of requests")
        again = any(name == AGAIN for name, _ in client_call_details.metadata or ())
        stream = _Stream(self.link, self.ledger, again)
        call = await continuation(client_call_details, stream.requests(request_iterator))
        return stream.responses(call)


@dataclass(frozen=True, slots=True)
class _OnAir:
    """A request on its way."""

    request: VerifyRequest
    arrival_at: float


@dataclass(frozen=True, slots=True)
class _End:
    """The caller's requests are over, for good or by an exception."""

    error: BaseException | None


class _Stream:
    """One Verify call. Lives on one event loop."""

    def __init__(self, link: Link, ledger: Ledger, again: bool) -> None:
        self._link = link
        self._ledger = ledger
        self._again = again
        self._session: Session | None = None
        self._codec: Codec | None = None
        self._error: BaseException | None = None
        # Rounds of audits alone, whose answers pass like them.
        self._unbilled: set[int] = set()

    async def requests(self, source: AsyncIterable[VerifyRequest]) -> AsyncIterator[VerifyRequest]:
        """Yield the caller's requests as they reach the base station."""
        if self._link.clock.simulated:
            # Nothing is held, so nothing needs to wait here: a queue would cost a thread's wake-up more a round.
            try:
                async for request in source:
                    self._depart(request)
                    yield request
            except Exception as error:
                self._error = error
                raise
            return
        on_air: asyncio.Queue[_OnAir | _End] = asyncio.Queue()
        departures = asyncio.create_task(self._depart_all(source, on_air))
        try:
            while isinstance(item := await on_air.get(), _OnAir):
                await self._hold_until(item.arrival_at)
                yield item.request
            if item.error is not None:
                # gRPC swallows this and cancels the call; `responses` raises it again.
                self._error = item.error
                raise item.error
        finally:
            departures.cancel()

    async def responses(self, call: Any) -> AsyncIterator[VerifyResponse]:
        """Yield the answers as they reach the device; raise what went wrong among the requests as itself."""
        try:
            async for response in call:
                arrived_at = self._arrive(response)
                await self._hold_until(arrived_at)
                yield response
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as end:
            task = asyncio.current_task()
            leaves = self._error is None or (task is not None and task.cancelling())
            if self._session is not None and (isinstance(end, grpc.aio.AioRpcError) or not leaves):
                self._link.broke_off(self._session)
            if leaves or self._error is None:
                raise
            raise self._error from None
        finally:
            # A reader that leaves early, or an answer that makes no sense, must not leave the session open over there.
            call.cancel()
        if self._error is not None:
            raise self._error

    async def _depart_all(self, source: AsyncIterable[VerifyRequest], on_air: asyncio.Queue[_OnAir | _End]) -> None:
        """Put every request on the link the moment the caller offers it."""
        try:
            async for request in source:
                on_air.put_nowait(_OnAir(request, self._depart(request)))
        except asyncio.CancelledError:
            # Ours (the call is over) or the caller's own; either way nothing more will come.
            on_air.put_nowait(_End(asyncio.CancelledError()))
            raise
        except Exception as error:
            on_air.put_nowait(_End(error))
        else:
            on_air.put_nowait(_End(None))

    def _depart(self, request: VerifyRequest) -> float:
        """Weigh a request, schedule it, charge it; return when it reaches the base station."""
        now = self._link.clock.now()
        weight = wire_bytes(size_of(request))
        kind = request.WhichOneof("message")
        if kind == "open":
            opening = request.open
            self._codec = codec(opening.codec, opening.vocabulary_size)
            self._session = self._link.open(opening.round, now, weight, opening.session_key, again=self._again)
            arrival_at = self._session.arrival_at(opening.round)
        elif kind == "upload" and self._session is not None and self._codec is not None:
            upload = request.upload
            if is_audit_alone(upload):
                self._unbilled.add(upload.round)
                return now
            model_bit, payload_bit = upload_bit(upload, self._codec, self._link.settings.b_prob)
            arrival_at = self._session.upload(upload.round, now, model_bit, payload_bit, weight)
        else:
            raise ProtocolError(f"a session starts with Open, got {kind or 'an empty request'}: send Open first")
        self._ledger.charge_request(self._session.request_bill)
        return arrival_at

    def _arrive(self, response: VerifyResponse) -> float:
        """Weigh an answer, schedule it, charge it, tell the clock; return when it reaches the device."""
        if self._session is None:
            raise ProtocolError("the base station answered before the session was opened")
        weight = wire_bytes(response.ByteSize())
        kind = response.WhichOneof("message")
        if kind == "ready":
            ready = response.ready
            round_ = ready.round
            arrived_at, bill = self._session.ready(
                round_, weight, ready.cost.forward_s, ready.cost.queue_s, positions=_positions(ready.cost)
            )
        elif kind == "verdict":
            verdict, cost = response.verdict, response.verdict.cost
            if verdict.round in self._unbilled:
                return self._link.clock.now()
            round_ = verdict.round
            arrived_at, bill = self._session.verdict(
                round_,
                weight,
                cost.forward_s,
                cost.queue_s,
                positions=_positions(cost),
                further=len(verdict.written_ids),
                ran_on=cost.ran_on,
                stale=verdict.stale,
            )
        else:
            raise ProtocolError("the base station sent an empty answer: it speaks another protocol")
        self._ledger.charge_answer(bill)
        self._link.clock.note_verdict(round_, arrived_at)
        if not self._link.clock.simulated:
            # What lies under the modelled link, if anything: a real one.
            self._ledger.note_late(max(0.0, self._link.clock.now() - arrived_at))
        return arrived_at

    async def _hold_until(self, at: float) -> None:
        """Under an enforced clock, sleep until `at`; asyncio may wake a little early."""
        clock = self._link.clock
        while not clock.simulated and (rest_s := at - clock.now()) > 0.0:
            await asyncio.sleep(rest_s)


def _positions(cost: Cost) -> int:
    """Return the positions of the forward behind an answer; 0 where there was none."""
    return max(1, cost.positions) if cost.forwards else 0
