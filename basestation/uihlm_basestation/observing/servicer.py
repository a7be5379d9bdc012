"""A servicer whose streams and rounds are told: it reads along, and changes no message.

It stands between gRPC and `VerificationServicer`, and between Ray Serve and it alike. A round is matched by its number, so
nothing is assumed about when the servicer reads ahead.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc

from uihlm_basestation.observing.rejections import Rejections
from uihlm_basestation.observing.telemetry import Ending, Round, RoundKind, Telemetry
from uihlm_proto.codecs import id_bit
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

# The number of the stream that a task serves, for its log lines; it says nothing of the device.
STREAM: contextvars.ContextVar[int | None] = contextvars.ContextVar("uihlm_stream", default=None)


class ObservedServicer(pb_grpc.VerificationServiceServicer):
    """Passes every call on to `servicer` and tells `telemetry` what it saw."""

    def __init__(
        self, servicer: pb_grpc.VerificationServiceServicer, telemetry: Telemetry, vocabulary_size: int
    ) -> None:
        self._servicer = servicer
        self._telemetry = telemetry
        self._vocabulary_size = vocabulary_size
        self._numbers = itertools.count(1)

    async def Verify(  # noqa: N802 (the name is the protocol's)
        self,
        request_iterator: AsyncIterator[pb.VerifyRequest],
        context: grpc.aio.ServicerContext[pb.VerifyRequest, pb.VerifyResponse],
    ) -> AsyncIterator[pb.VerifyResponse]:
        """Serve one stream and tell its rounds as they are answered."""
        STREAM.set(next(self._numbers))
        started_s = time.perf_counter()
        reader = _Reader(request_iterator, self._vocabulary_size)
        stood, rounds, status = False, 0, "CANCELLED"
        answers = self._servicer.Verify(reader, context)  # type: ignore[no-untyped-call]
        try:
            # Closed with this one, so that the session is freed when the call ends and not when it is collected.
            async with contextlib.aclosing(answers):
                async for response in answers:
                    told = reader.answered(response)
                    if told is not None:
                        rounds += 1
                        self._telemetry.round(told)
                        if told.kind is RoundKind.OPEN:
                            stood = True
                            self._telemetry.opened()
                    yield response
            # A device that hangs up between rounds ends its requests as one that half-closes does, and gRPC may not know yet.
            status = "CANCELLED" if context.cancelled() else "OK"
        except Exception:
            status = _status(context)
            raise
        finally:
            self._telemetry.ended(Ending(status, stood, rounds, time.perf_counter() - started_s))

    async def Score(  # noqa: N802 (the name is the protocol's)
        self, request: pb.ScoreRequest, context: grpc.aio.ServicerContext[pb.ScoreRequest, pb.ScoreResponse]
    ) -> pb.ScoreResponse:
        """Score, and tell that it was done."""
        started_s = time.perf_counter()
        scored = self._servicer.Score(request, context)  # type: ignore[no-untyped-call]
        response: pb.ScoreResponse = await scored
        self._telemetry.round(
            Round(
                RoundKind.SCORE,
                time.perf_counter() - started_s,
                request_bytes=request.ByteSize(),
                answer_bytes=response.ByteSize(),
            )
        )
        return response


@dataclass(slots=True)
class _Pending:
    """A round that is not answered in full."""

    since_s: float
    request: pb.VerifyRequest
    size: int
    forward_s: float = 0.0
    queue_s: float = 0.0
    forwards: int = 0
    generated: int = 0
    answer_bytes: int = 0


class _Reader:
    """The requests of a stream, and what their answers make of them."""

    def __init__(self, requests: AsyncIterator[pb.VerifyRequest], vocabulary_size: int) -> None:
        self._requests = requests
        self._id_bit = id_bit(vocabulary_size)
        self._rejections = Rejections(vocabulary_size)
        self._pending: dict[int, _Pending] = {}

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> pb.VerifyRequest:
        request = await anext(self._requests)
        body = request.open if request.HasField("open") else request.upload
        self._pending[body.round] = _Pending(time.perf_counter(), request, request.ByteSize())
        return request

    def answered(self, response: pb.VerifyResponse) -> Round | None:
        """Return the round that this answer ends, or None."""
        is_ready = response.HasField("ready")
        answer = response.ready if is_ready else response.verdict
        pending = self._pending.get(answer.round)
        if pending is None:
            return None
        pending.forward_s += answer.cost.forward_s
        pending.queue_s += answer.cost.queue_s
        pending.forwards += answer.cost.forwards
        pending.answer_bytes += response.ByteSize()
        upload = pending.request.upload
        if not is_ready and upload.generate and not response.verdict.stale:
            pending.generated += 1 + len(response.verdict.written_ids)
            if not response.verdict.last:
                return None
        del self._pending[answer.round]
        kind = RoundKind.OPEN if is_ready else _kind(upload, response.verdict)
        rejects = not is_ready and self._rejections.take(upload, response.verdict)
        return Round(
            kind,
            time.perf_counter() - pending.since_s,
            pending.forward_s,
            pending.queue_s,
            pending.forwards,
            response.verdict.accepted if kind is RoundKind.JUDGE else 0,
            int(rejects),
            pending.generated,
            0 if kind is RoundKind.STALE else len(upload.skipped_ids),
            self._payload_bit(upload),
            pending.size,
            pending.answer_bytes,
        )

    def _payload_bit(self, upload: pb.Upload) -> int:
        codec_bytes = sum(len(draft.payload) for draft in upload.drafts)
        return 8 * (codec_bytes + len(upload.audit)) + len(upload.skipped_ids) * self._id_bit


def _kind(upload: pb.Upload, verdict: pb.Verdict) -> RoundKind:
    if verdict.stale:
        return RoundKind.STALE
    if upload.generate:
        return RoundKind.GENERATE
    return RoundKind.JUDGE if upload.drafts else RoundKind.AUDIT


def _status(context: grpc.aio.ServicerContext[pb.VerifyRequest, pb.VerifyResponse]) -> str:
    """Return the name of the status that a call was ended with; a defect sets none, and gRPC calls it UNKNOWN."""
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK else "UNKNOWN"
