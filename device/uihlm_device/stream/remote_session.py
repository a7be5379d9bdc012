"""One session on a channel: requests go out as they are made, responses are sorted by round into queues.

A wait for a verdict has a deadline; the read itself is never cancelled, because that would end the whole stream.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future

import grpc

from uihlm_device.stream.channel import Channel
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.messages import check_cost, check_verdict, cost_of, upload_request, verdict_of
from uihlm_device.stream.session import Cost, SilentError, Upload, Verdict
from uihlm_device.stream.statuses import domain_error
from uihlm_proto.errors import ProtocolError, UnavailableError
from uihlm_proto.limits import PROTOCOL_VERSION
from uihlm_proto.metadata import AGAIN
from uihlm_proto.v1 import verification_pb2 as pb

# What a base station refuses before it reads a request.
_UNREAD = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)


class RemoteSession:
    """One stream of `VerificationService.Verify`; implements `uihlm_device.stream.session.Session`."""

    def __init__(self, channel: Channel, contract: Contract) -> None:
        self._channel = channel
        # The channel may be renewed meanwhile; a stream ends on the one it began on.
        self._stub = channel.stub
        self._contract = contract
        self._requests: asyncio.Queue[pb.VerifyRequest | None] = asyncio.Queue()
        self._answers: dict[int, queue.SimpleQueue[pb.VerifyResponse | Exception]] = {}
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._reader: Future[None] | None = None
        self._open_round = 0
        self._abandoned = False
        # Rounds that may have many verdicts.
        self._generating: set[int] = set()
        # Of each round, answers that may still come, or tokens of `generate`: nobody fills this device's memory with more.
        self._due: dict[int, int] = {}

    def open(self, prefix_ids: Sequence[int], key: bytes, *, again: bool = False) -> int:
        """Send Open and return its round without waiting; `again` says that it takes a lost stream's place."""
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
            stop_ids=sorted(contract.stop_ids),
        )
        self._channel.post(self._requests, pb.VerifyRequest(open=request))
        shown = (*self._channel.metadata, (AGAIN, "1")) if again else self._channel.metadata
        self._reader = self._channel.spawn(self._read(shown))
        if self._abandoned:
            self._reader.cancel()
        return self._open_round

    @property
    def reached(self) -> bool:
        """Whether the base station has ever answered on this channel."""
        return self._channel.reached

    @property
    def max_context(self) -> int | None:
        """Ids a session may hold; None before any on this channel was told."""
        return self._channel.max_context

    @property
    def timeout_s(self) -> float:
        """How long any one answer is waited for, unless the caller says less."""
        return self._channel.timeout_s

    def ready(self, timeout_s: float | None = None) -> Cost:
        """Wait until the base station has prefilled the prefix; SilentError after `timeout_s`."""
        response = self._next(self._open_round, timeout_s)
        if response.WhichOneof("message") != "ready":
            raise ProtocolError("the base station answered Open with something else than Ready")
        self._forget(self._open_round)
        check_cost(response.ready.cost)
        return cost_of(response.ready.cost)

    def upload(self, upload: Upload, round_number: int | None = None) -> int:
        """Send an upload and return its round without waiting; one asked again keeps its round."""
        round_number = self._expect(round_number, upload.generate or 1)
        if upload.generate:
            self._generating.add(round_number)
        self._channel.post(self._requests, upload_request(round_number, upload))
        return round_number

    def arrived(self, round_number: int) -> bool:
        """Return whether the next verdict of a round is there, or the error that takes its place."""
        return not self._answers[round_number].empty()

    def verdict(self, round_number: int, timeout_s: float | None = None) -> Verdict:
        """Wait for the next verdict of a round; SilentError after `timeout_s`."""
        response = self._next(round_number, timeout_s)
        if response.WhichOneof("message") != "verdict":
            raise ProtocolError("the base station answered an Upload with something else than a Verdict")
        check_verdict(response.verdict, self._contract.codec.vocabulary_size)
        verdict = verdict_of(response.verdict, round_number in self._generating)
        if verdict.last:
            self._forget(round_number)
        return verdict

    def reachable(self) -> bool:
        """Return True: a stream is asked, and fails if there is nobody."""
        return True

    def close(self, timeout_s: float | None = None) -> None:
        """Half-close the stream and wait until the base station has ended it, so that the session is free again.

        Where that takes longer than `timeout_s` (the channel's, if it is not given), hang up.
        """
        if self._reader is None or self._channel.closed:
            return
        reader, self._reader = self._reader, None
        if self._answers.keys() - {self._open_round}:
            # A round was left open (an answer was interrupted): hang up, its verdict is of no use.
            reader.cancel()
        # Ends the requests; where the stream has ended already, it frees the iterator that still waits for one.
        self._channel.post(self._requests, None)
        patience_s = self._channel.timeout_s if timeout_s is None else timeout_s
        if concurrent.futures.wait([reader], timeout=patience_s).not_done:
            reader.cancel()

    def hang_up(self, dead: bool = False) -> None:
        """Drop the stream at once: what is on its way is of no use; on a dead link the next session gets another channel."""
        if dead:
            self._channel.renew()
        if self._reader is not None and not self._channel.closed:
            self._reader.cancel()
            self.close()

    def abandon(self) -> None:
        """End the stream from another thread: whoever waits for an answer gets UnavailableError, and closes it as ever."""
        self._abandoned = True
        if (reader := self._reader) is not None:
            reader.cancel()

    def _expect(self, round_number: int | None = None, answers: int = 1) -> int:
        round_number = next(self._channel.rounds) if round_number is None else round_number
        with self._lock:
            self._answers[round_number] = queue.SimpleQueue()
            self._due[round_number] = answers
            if self._failure is not None:
                self._answers[round_number].put(self._failure)
        return round_number

    def _forget(self, round_number: int) -> None:
        with self._lock:
            del self._answers[round_number], self._due[round_number]
        self._generating.discard(round_number)

    def _next(self, round_number: int, timeout_s: float | None = None) -> pb.VerifyResponse:
        timeout_s = self._channel.timeout_s if timeout_s is None else timeout_s
        try:
            answer = self._answers[round_number].get(timeout=timeout_s)
        except queue.Empty:
            raise SilentError(
                f"the base station at {self._channel.target} has not answered for {timeout_s:g} s: "
                "it is overloaded or the link is lost; try again, or allow more with --timeout-s"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _outgoing(self) -> AsyncIterator[pb.VerifyRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _read(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Sort responses by round until the stream ends; whatever ends it badly is every waiting round's answer."""
        answered = False
        try:
            async for response in self._stub.Verify(self._outgoing(), metadata=metadata):
                answered = self._channel.reached = True
                if response.HasField("ready"):
                    self._channel.max_context = response.ready.max_context
                number = (response.ready if response.HasField("ready") else response.verdict).round
                with self._lock:
                    waiting = self._answers.get(number)
                    due = self._due[number] = self._due.get(number, 0) - 1 - len(response.verdict.written_ids)
                if waiting is None:
                    raise ProtocolError(f"the base station answered round {number}, which was never asked")
                if due < 0:
                    raise ProtocolError(f"the base station sent more on round {number} than it was asked for")
                waiting.put(response)
            self._fail(UnavailableError("the base station ended the session: connect again to go on"))
        except grpc.aio.AioRpcError as error:
            self._fail(domain_error(error if answered else await self._refusal(error), self._channel.target))
        except asyncio.CancelledError:
            self._fail(UnavailableError("the session was closed on this side"))
            raise
        except Exception as error:
            # A domain error, or a defect: either way the waiting round is where it belongs.
            self._fail(error)

    async def _refusal(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return why a stream without an answer ended.

        One that is refused while Open is being written reports the write that failed (grpc#36066); a call of one request
        reports the refusal.
        """
        if error.code() is not grpc.StatusCode.INTERNAL:
            return error
        try:
            await self._stub.Score(pb.ScoreRequest(), timeout=self._channel.timeout_s, metadata=self._channel.metadata)
        except grpc.aio.AioRpcError as refusal:
            if refusal.code() in _UNREAD:
                return refusal
        return error

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._failure = error
            for waiting in self._answers.values():
                waiting.put(error)
