"""The channel to a base station, and the thread it lives in.

gRPC lives on an event loop in a thread of its own, so that the decode loop stays a plain generator and a draft never waits
for the network unless it asks to. Requests cross by `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import grpc

from uihlm_device.stream.access import PLAIN, Access
from uihlm_proto.encoded import bytes_of
from uihlm_proto.limits import max_request_bytes, max_response_bytes
from uihlm_proto.loops import new_event_loop
from uihlm_proto.metadata import VERIFY_METHOD
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

T = TypeVar("T")

# Prompts are bounded by the base station's answer to Open; this only sizes the largest message a device may send.
_MAX_CONTEXT = 131_072
_UNTIL_THEY_END_S = 30 * 86_400.0


class Channel:
    """A channel to one base station, with what its sessions share. Close it, or use it as a context manager.

    Attributes:
        target: host:port.
        timeout_s: how long any one answer is waited for; seconds.
        reached: whether the base station has ever answered a session of this channel.
        max_context: ids that a session may hold, as the base station said last; None before it has.
        metadata: what every call shows.
        rounds: numbers of rounds, unique among its sessions.
        stub: makes the calls of sessions opened from now on.
    """

    def __init__(
        self,
        target: str,
        vocabulary_size: int,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        timeout_s: float = 120.0,
        access: Access = PLAIN,
        keepalive_s: float | None = None,
    ) -> None:
        """Prepare a channel; nothing is sent before the first session.

        Args:
            target: host:port.
            vocabulary_size: V, which bounds the size of messages.
            interceptors: the link, if one is modelled.
            timeout_s: how long to wait for any one answer.
            access: TLS and the token.
            keepalive_s: ask so often whether the link lives: a base station behind a dead one is told from a slow one, which
                answers. Some servers hang up on who asks, so only a device that survives that should; None never asks.

        Raises:
            AccessError: if the token could be read on the way, or the files of TLS do not do.
        """
        access.check(target)
        self.target = target
        self.timeout_s = timeout_s
        self.reached = False
        self.max_context: int | None = None
        self.metadata = access.metadata
        self.rounds = itertools.count(1)
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="uihlm-channel", daemon=True)
        self._thread.start()
        self._connect = functools.partial(self._connected, vocabulary_size, interceptors, access, keepalive_s)
        self._channel, self.stub = self.run(self._connect())

    def renew(self) -> None:
        """Give sessions opened from now on a channel of their own: streams of one channel share its link, alive or dead."""
        old = self._channel
        self._channel, self.stub = self.run(self._connect())
        # Other sessions' streams end on the channel they began on: it may be theirs alone that seems dead.
        self.spawn(old.close(_UNTIL_THEY_END_S))

    def reaches(self, timeout_s: float) -> bool:
        """Return whether a base station answers at the address within `timeout_s`; asked on a channel of the question's own."""
        return self.run(self._reaches(timeout_s))

    async def _reaches(self, timeout_s: float) -> bool:
        channel, _ = await self._connect()
        try:
            await asyncio.wait_for(channel.channel_ready(), timeout_s)
        except TimeoutError:
            return False
        finally:
            await channel.close()
        return True

    async def _connected(
        self,
        vocabulary_size: int,
        interceptors: Sequence[grpc.aio.ClientInterceptor],
        access: Access,
        keepalive_s: float | None,
    ) -> tuple[grpc.aio.Channel, pb_grpc.VerificationServiceStub]:
        channel = access.channel(
            self.target,
            [
                ("grpc.max_send_message_length", max_request_bytes(vocabulary_size, _MAX_CONTEXT)),
                ("grpc.max_receive_message_length", max_response_bytes(_MAX_CONTEXT)),
                # A proxy from the environment must never sit between the two ends: times and bytes would be its own.
                ("grpc.enable_http_proxy", 0),
                # Whoever comes back to a lost base station paces himself (outages/outage.py); the channel's own pauses, of
                # a second and more, would only add to that.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 200),
                ("grpc.min_reconnect_backoff_ms", 5000),
                *_pings(keepalive_s),
            ],
            interceptors,
        )
        stub: Any = pb_grpc.VerificationServiceStub(channel)  # type: ignore[no-untyped-call]
        # As generated, but for who makes the bytes: a modelled link has made them already.
        stub.Verify = channel.stream_stream(  # type: ignore[call-arg]
            VERIFY_METHOD, bytes_of, pb.VerifyResponse.FromString, _registered_method=True
        )
        return channel, stub

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the channel's loop and wait for it."""
        return self.spawn(call).result()

    def spawn(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the channel's loop."""
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._loop.is_closed()

    def post(self, requests: asyncio.Queue[pb.VerifyRequest | None], request: pb.VerifyRequest | None) -> None:
        """Put a request on a stream's queue from this thread."""
        self._loop.call_soon_threadsafe(requests.put_nowait, request)

    def close(self) -> None:
        """Close the channel and stop its thread; safe to call twice."""
        if self.closed:
            return
        self.run(self._wind_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _wind_up(self) -> None:
        """Close the channel, and end what still waits on the loop, so that nothing is left when it stops."""
        await self._channel.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _pings(keepalive_s: float | None) -> list[tuple[str, int]]:
    """Return the options that make a channel ask whether its link lives; an answer is late after half the interval."""
    if keepalive_s is None:
        return []
    interval_ms = round(1000.0 * keepalive_s)
    return [
        ("grpc.keepalive_time_ms", interval_ms),
        ("grpc.keepalive_timeout_ms", interval_ms // 2),
        # A ping of the transport's own that is under way takes the place of one of these.
        ("grpc.http2.ping_timeout_ms", interval_ms // 2),
        ("grpc.http2.max_pings_without_data", 0),
    ]
