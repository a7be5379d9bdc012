"""A base station under test with its insides in reach, and a raw client that may say anything, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np

from fakes import FakeEngine, Logits
from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.server import BaseStation
from uihlm_proto.addresses import Address
from uihlm_proto.limits import PROTOCOL_VERSION
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

T = TypeVar("T")

PATIENCE_S = 10.0


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true soon; for what another thread has yet to finish."""
    end = time.monotonic() + PATIENCE_S
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return holds


class GatedEngine(FakeEngine):
    """A fake whose forwards wait while the gate is shut, so that others can queue up behind one."""

    def __init__(self, logits: Logits, vocabulary_size: int) -> None:
        super().__init__(logits, vocabulary_size)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def forward(self, work: Sequence[Work]) -> list[np.ndarray]:
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        return super().forward(work)


class Station:
    """A served engine on an event loop in a thread of its own."""

    def __init__(self, engine: Engine, max_sessions: int, **served: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server = self.run(self._make(engine, max_sessions, **served))
        self.address: Address | None = None

    @staticmethod
    async def _make(engine: Engine, max_sessions: int, **served: Any) -> BaseStation:
        return BaseStation(engine, max_sessions, **served)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.spawn(call).result(PATIENCE_S)

    def spawn(self, call: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    @property
    def sessions(self) -> int:
        return self.server.sessions

    def shut(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def standing(engine: Engine, max_sessions: int = 16, **served: Any) -> Iterator[Station]:
    """Serve an engine on a free loopback port."""
    station = Station(engine, max_sessions, **served)
    try:
        station.address = station.run(station.server.start())
        try:
            yield station
        finally:
            station.run(station.server.stop(grace_s=0.0))
    finally:
        station.shut()


class Stream:
    """One raw Verify stream: what is sent and received is up to the test."""

    def __init__(self, stub: pb_grpc.VerificationServiceStub) -> None:
        self._requests: queue.SimpleQueue[pb.VerifyRequest | None] = queue.SimpleQueue()
        self.call = stub.Verify(iter(self._requests.get, None), timeout=PATIENCE_S)

    def send(self, *requests: pb.VerifyRequest) -> None:
        for request in requests:
            self._requests.put(request)

    def receive(self) -> pb.VerifyResponse:
        return next(self.call)

    def ask(self, request: pb.VerifyRequest) -> pb.VerifyResponse:
        self.send(request)
        return self.receive()

    def half_close(self) -> None:
        self._requests.put(None)

    def refusal(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end of the stream and return its status."""
        # The status is read from the call itself: here the error only ends the stream.
        with contextlib.suppress(grpc.RpcError):
            for _ in self.call:
                pass
        self.half_close()
        return self.call.code(), self.call.details()


class RawClient:
    """A plain gRPC channel with the service's stub."""

    def __init__(self, address: Address | str) -> None:
        self.channel = grpc.insecure_channel(str(address), options=[("grpc.enable_http_proxy", 0)])
        self.stub = pb_grpc.VerificationServiceStub(self.channel)

    def stream(self) -> Stream:
        return Stream(self.stub)

    def opened(self, engine: FakeEngine, **changes: Any) -> Stream:
        """A stream that stands."""
        stream = self.stream()
        assert stream.ask(opening(engine, **changes)).WhichOneof("message") == "ready"
        return stream

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.channel.close()


def opening(engine: FakeEngine, **changes: Any) -> pb.VerifyRequest:
    """An Open that is right but for the changes."""
    fields = {
        "round": 1,
        "protocol_version": PROTOCOL_VERSION,
        "tokenizer_fingerprint": engine.fingerprint,
        "vocabulary_size": engine.vocabulary_size,
        "prefix_ids": [1, 2, 3],
        "sampling": pb.Sampling(temperature=1.0),
        "codec": "dense32",
        "session_key": session_key(0, 0),
    }
    return pb.VerifyRequest(open=pb.Open(**(fields | changes)))


def one_hot_payload(token: int, vocabulary_size: int, dtype: str = "<f4") -> bytes:
    """A dense draft that is sure of itself; ids of at most one byte."""
    x = np.zeros(vocabulary_size, dtype)
    x[token] = 1.0
    return bytes([token]) + x.tobytes()


def upload(engine: FakeEngine, **changes: Any) -> pb.VerifyRequest:
    """An Upload of one draft after a prefix of three ids that is right but for the changes."""
    fields = {
        "round": 2,
        "first_position": 3,
        "drafts": [pb.Draft(payload=one_hot_payload(0, engine.vocabulary_size))],
    }
    return pb.VerifyRequest(upload=pb.Upload(**(fields | changes)))
