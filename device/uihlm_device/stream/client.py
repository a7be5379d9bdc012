"""The device's end of the stream: a connection to a base station, and sessions on it.

gRPC lives on an event loop in a thread of its own, so that the decode loop stays a plain generator and a draft never waits
for the network unless it asks to. Requests cross by `call_soon_threadsafe`; responses are sorted by round into queues.
A wait for a verdict has a deadline; the read itself is never cancelled, because that would end the whole stream.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from uihlm_device.stream.messages import cost_of, upload_message, verdict_of
from uihlm_device.stream.session import Cost, Upload, Verdict
from uihlm_device.stream.statuses import domain_error
from uihlm_proto.codecs import Codec
from uihlm_proto.errors import ProtocolError, UnavailableError
from uihlm_proto.limits import PROTOCOL_VERSION, max_request_bytes, max_response_bytes
from uihlm_proto.sampling import Sampling
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

T = TypeVar("T")

# Prompts are bounded by the base station's answer to Open; this only sizes the largest message a device may send.
_MAX_CONTEXT = 131_072


@dataclass(frozen=True, slots=True)
class Contract:
    """What every session of a device agrees on with the base station."""

    fingerprint: bytes
    sampling: Sampling
    codec: Codec


class Connection:
    """A channel to one base station. Close it, or use it as a context manager."""

    def __init__(
        self,
        target: str,
        vocabulary_size: int,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        timeout_s: float = 120.0,
    ) -> None:
        """Prepare a channel; nothing is sent before the first session.

        Args:
            target: host:port.
            vocabulary_size: V, which bounds the size of messages.
            interceptors: the link, if one is modelled.
            timeout_s: how long to wait for any one answer.
        """
        self.target = target
        self.timeout_s = timeout_s
        self.rounds = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="uihlm-channel", daemon=True)
        self._thread.start()
        self._channel, self._stub = self.run(self._connect(vocabulary_size, interceptors))

    async def _connect(
        self, vocabulary_size: int, interceptors: Sequence[grpc.aio.ClientInterceptor]
    ) -> tuple[grpc.aio.Channel, pb_grpc.VerificationServiceStub]:
        channel = grpc.aio.insecure_channel(
            self.target,
            options=[
                ("grpc.max_send_message_length", max_request_bytes(vocabulary_size, _MAX_CONTEXT)),
                ("grpc.max_receive_message_length", max_response_bytes(_MAX_CONTEXT)),
                # A proxy from the environment must never sit between the two ends: times and bytes would be its own.
                ("grpc.enable_http_proxy", 0),
            ],
            interceptors=list(interceptors),
        )
        return channel, pb_grpc.VerificationServiceStub(channel)  # type: ignore[no-untyped-call]

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

    def session(self, contract: Contract) -> RemoteSession:
        """Return a new session; nothing is sent before its `open`."""
        return RemoteSession(self, self._stub, contract)

    def score(self, contract: Contract, context_ids: Sequence[int], target_ids: Sequence[int]) -> list[float]:
        """Return the LLM's log-probability of each target id at temperature 1 given all before it."""
        request = pb.ScoreRequest(
            tokenizer_fingerprint=contract.fingerprint, context_ids=context_ids, target_ids=target_ids
        )

        async def call() -> Any:
            return await self._stub.Score(request, timeout=self.timeout_s)

        try:
            return list(self.run(call()).log_probabilities)
        except grpc.aio.AioRpcError as error:
            raise domain_error(error, self.target) from error

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

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class RemoteSession:
    """One stream of `VerificationService.Verify`; implements `uihlm_device.stream.session.Session`."""

    def __init__(self, connection: Connection, stub: pb_grpc.VerificationServiceStub, contract: Contract) -> None:
        self._connection = connection
        self._stub = stub
        self._contract = contract
        self._requests: asyncio.Queue[pb.VerifyRequest | None] = asyncio.Queue()
        self._answers: dict[int, queue.SimpleQueue[pb.VerifyResponse | Exception]] = {}
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._reader: Future[None] | None = None
        self._open_round = 0
        # Rounds that may have many verdicts.
        self._generating: set[int] = set()

    def open(self, prefix_ids: Sequence[int], key: bytes) -> int:
        """Send Open and return its round without waiting."""
        contract = self._contract
        self._open_round = self._expect()
        request = pb.Open(
            round=self._open_round,
            protocol_version=PROTOCOL_VERSION,
            tokenizer_fingerprint=contract.fingerprint,
            vocabulary_size=contract.codec.vocabulary_size,
            prefix_ids=prefix_ids,
            sampling=pb.Sampling(
                temperature=contract.sampling.temperature,
                top_k=contract.sampling.top_k,
                top_p=contract.sampling.top_p,
            ),
            codec=contract.codec.name,
            session_key=key,
        )
        self._connection.post(self._requests, pb.VerifyRequest(open=request))
        self._reader = self._connection.spawn(self._read())
        return self._open_round

    def ready(self) -> Cost:
        """Wait until the base station has prefilled the prefix."""
        response = self._next(self._open_round)
        if response.WhichOneof("message") != "ready":
            raise ProtocolError("the base station answered Open with something else than Ready")
        self._forget(self._open_round)
        return cost_of(response.ready.cost)

    def upload(self, upload: Upload) -> int:
        """Send an upload and return its round without waiting."""
        round_number = self._expect()
        if upload.generate:
            self._generating.add(round_number)
        request = upload_message(round_number, upload)
        self._connection.post(self._requests, pb.VerifyRequest(upload=request))
        return round_number

    def arrived(self, round_number: int) -> bool:
        """Return whether the next verdict of a round is there, or the error that takes its place."""
        return not self._answers[round_number].empty()

    def verdict(self, round_number: int) -> Verdict:
        """Wait for the next verdict of a round."""
        response = self._next(round_number)
        if response.WhichOneof("message") != "verdict":
            raise ProtocolError("the base station answered an Upload with something else than a Verdict")
        verdict = verdict_of(response.verdict, round_number in self._generating)
        if verdict.last:
            self._forget(round_number)
        return verdict

    def close(self) -> None:
        """Half-close the stream and wait until the base station has ended it, so that the session is free again."""
        if self._reader is None or self._connection.closed:
            return
        reader, self._reader = self._reader, None
        if self._answers.keys() - {self._open_round}:
            # A round was left open (an answer was interrupted): hang up, its verdict is of no use.
            reader.cancel()
        # Ends the requests; where the stream has ended already, it frees the iterator that still waits for one.
        self._connection.post(self._requests, None)
        concurrent.futures.wait([reader], timeout=self._connection.timeout_s)

    def _expect(self) -> int:
        round_number = next(self._connection.rounds)
        with self._lock:
            self._answers[round_number] = queue.SimpleQueue()
            if self._failure is not None:
                self._answers[round_number].put(self._failure)
        return round_number

    def _forget(self, round_number: int) -> None:
        with self._lock:
            del self._answers[round_number]
        self._generating.discard(round_number)

    def _next(self, round_number: int) -> pb.VerifyResponse:
        try:
            answer = self._answers[round_number].get(timeout=self._connection.timeout_s)
        except queue.Empty:
            raise UnavailableError(
                f"the base station at {self._connection.target} has not answered for {self._connection.timeout_s:g} s: "
                "it is overloaded or the link is lost; try again, or allow more with --timeout-s"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _outgoing(self) -> AsyncIterator[pb.VerifyRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _read(self) -> None:
        """Sort responses by round until the stream ends; whatever ends it badly is every waiting round's answer."""
        try:
            async for response in self._stub.Verify(self._outgoing()):
                number = (response.ready if response.HasField("ready") else response.verdict).round
                with self._lock:
                    waiting = self._answers.get(number)
                if waiting is None:
                    raise ProtocolError(f"the base station answered round {number}, which was never asked")
                waiting.put(response)
            self._fail(UnavailableError("the base station ended the session: connect again to go on"))
        except grpc.aio.AioRpcError as error:
            self._fail(domain_error(error, self._connection.target))
        except asyncio.CancelledError:
            self._fail(UnavailableError("the session was closed on this side"))
            raise
        except Exception as error:
            # A domain error, or a defect: either way the waiting round is where it belongs.
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._failure = error
            for waiting in self._answers.values():
                waiting.put(error)
