"""The gate in front of every method: who calls, how often, how much. A server interceptor; the servicer knows nothing of it.

    call ──▶ token? ──▶ seat for the peer? ──▶ each message: rates, then parsed ──▶ servicer

Messages come here as bytes and are parsed only when the call may speak. What is refused here carries the same domain errors
as what the servicer refuses, and a refused stream is answered once its first message is here: a grpc.aio client whose write
fails after the status came reports the failed write, not the refusal (grpc#36066).

Health checks take no token: a load balancer or a supervisor must be able to ask without a secret, and learns only whether
the base station serves. Their rates and open calls are counted like any other's, by address and apart from the sessions'.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from uihlm_basestation.servicer import STATUS
from uihlm_basestation.trust.limits import Rates
from uihlm_basestation.trust.peers import Peer, Peers, peer_at
from uihlm_basestation.trust.settings import Trust
from uihlm_proto.errors import AccessError, ExhaustedError, InvalidRequestError, UihlmError

# A stream that has not said anything by then is ended: it holds a seat and asks for nothing.
FIRST_MESSAGE_S = 30.0
_HEALTH = "/grpc.health.v1.Health/"

Context = Any


class Guard(grpc.aio.ServerInterceptor):
    """Lets calls through as `Trust` says. Use on one event loop only.

    Attributes:
        trust: what it demands.
        clock: the time, seconds.
        peers: who has something open.
    """

    def __init__(self, trust: Trust, clock: Callable[[], float] = time.monotonic) -> None:
        """Guard nothing yet; the clock is for tests."""
        self.trust = trust
        self.clock = clock
        self.peers = Peers(trust.limits)
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the gate in front of one call's handler; called by gRPC."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        plain, wrapped = self._wrapped.get(method, (None, None))
        if plain is not handler:
            wrapped = self._wrap(handler, open_to_all=method.startswith(_HEALTH))
            # What is not found is not kept: a client may make up names.
            self._wrapped[method] = handler, wrapped
        return wrapped

    def _wrap(self, handler: Any, open_to_all: bool) -> Any:
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream_stream(handler, open_to_all), None, handler.response_serializer
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._unary(handler.unary_stream, handler, open_to_all), None, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(handler.unary_unary, handler, open_to_all), None, handler.response_serializer
        )

    def _stream_stream(self, handler: Any, open_to_all: bool) -> Any:
        async def guarded(raw_requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            with _Call(self, context, open_to_all) as call:
                requests = call.requests(raw_requests, handler.request_deserializer)
                try:
                    async with contextlib.aclosing(handler.stream_stream(requests, context)) as responses:
                        async for response in responses:
                            yield response
                except UihlmError as error:
                    # The servicer tells its own refusals; these are of a service that knows nothing of them.
                    await context.abort(STATUS[type(error)], str(error))

        return guarded

    def _unary(self, behaviour: Any, handler: Any, open_to_all: bool) -> Any:
        async def guarded(raw: bytes, context: Context) -> Any:
            with _Call(self, context, open_to_all) as call:
                try:
                    request = call.request(raw, handler.request_deserializer)
                except UihlmError as error:
                    await context.abort(STATUS[type(error)], str(error))
                # A stream of responses is written to the context, as the health service does it.
                return await behaviour(request, context)

        return guarded

    def peer_of(self, context: Context, open_to_all: bool) -> Peer:
        """Return who is calling; AccessError if that takes a token and none that is known was shown."""
        if open_to_all:
            at = peer_at(context.peer())
            return Peer(f"{at.name} (health)", at.limited)
        names = []
        if self.trust.tls is not None and self.trust.tls.client_ca is not None:
            names.append("certificate " + ", ".join(sorted(map(_text, context.peer_identities() or ()))))
        if self.trust.tokens is not None:
            names.append(self.trust.tokens.name_of(context.invocation_metadata()))
        return Peer(" with ".join(names)) if names else peer_at(context.peer())


class _Call:
    """One call: who makes it, its seat and its rates."""

    def __init__(self, guard: Guard, context: Context, open_to_all: bool) -> None:
        self._guard = guard
        self._context = context
        self._open_to_all = open_to_all
        self._peer: Peer | None = None
        self._rates: list[Rates] = []
        self._refusal: UihlmError | None = None

    def __enter__(self) -> _Call:
        guard, now_s = self._guard, self._guard.clock()
        limits = guard.trust.limits
        own = Rates("this session", limits.session_messages_s, limits.session_bytes_s, now_s, "session")
        try:
            peer = guard.peer_of(self._context, self._open_to_all)
            shared = guard.peers.enter(peer, now_s)
        except (AccessError, ExhaustedError) as refusal:
            self._refusal = refusal
            return self
        self._peer = peer
        self._rates = [rates for rates in (own, shared) if rates is not None and rates.bounded]
        return self

    def __exit__(self, *exception: object) -> None:
        if self._peer is not None:
            self._guard.peers.leave(self._peer, self._guard.clock())

    def request(self, raw: bytes, parse: Callable[[bytes], Any]) -> Any:
        """Return a request as a message.

        Raises:
            AccessError: no token, or one that is not known.
            ExhaustedError: no seat left for this peer, or a rate exceeded.
            InvalidRequestError: bytes that are no message.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._rates:
            now_s = self._guard.clock()
            for rates in self._rates:
                rates.take(len(raw), now_s)
        try:
            return parse(raw)
        except DecodeError:
            raise InvalidRequestError(f"these {len(raw)} bytes are no message of this service") from None

    async def requests(self, raw_requests: AsyncIterator[bytes], parse: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        """Yield a stream's requests as messages; raises as `request` does."""
        reader = aiter(raw_requests)
        try:
            async with asyncio.timeout(FIRST_MESSAGE_S):
                first = await anext(reader)
        except StopAsyncIteration:
            if self._refusal is not None:
                raise self._refusal from None
            return
        except TimeoutError:
            raise ExhaustedError(
                f"this stream has said nothing for {FIRST_MESSAGE_S:g} s: open it when there is something to say"
            ) from None
        yield self.request(first, parse)
        async for raw in reader:
            yield self.request(raw, parse)


def _text(identity: str | bytes) -> str:
    return identity if isinstance(identity, str) else identity.decode("utf-8", "replace")
