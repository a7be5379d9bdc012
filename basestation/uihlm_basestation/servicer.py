"""`VerificationService` over grpc.aio: streams become sessions, domain errors become statuses.

One call of `Verify` is one session: the request iterator is read in order, every message is answered before the next is
read, and the session is freed when the call ends, however it ends (half-close, error, cancel, lost link).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator

import grpc
import numpy as np

from uihlm_basestation.audits import AUDIT_ROWS
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.departures import Departures
from uihlm_basestation.draining import Draining
from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.idle import unless_idle
from uihlm_basestation.session import Session
from uihlm_proto.errors import (
    AccessError,
    ExhaustedError,
    InvalidRequestError,
    MismatchError,
    ProtocolError,
    UihlmError,
    UnavailableError,
)
from uihlm_proto.metadata import RETRY_AFTER
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

# The catalogue: every domain error has one status, and no other place decides.
STATUS: dict[type[UihlmError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    ProtocolError: grpc.StatusCode.INVALID_ARGUMENT,
    MismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    AccessError: grpc.StatusCode.UNAUTHENTICATED,
}


def trailing(error: UihlmError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of a refusal: when to come back, if that is known."""
    if isinstance(error, ExhaustedError) and error.retry_after_s is not None:
        return ((RETRY_AFTER, f"{error.retry_after_s:g}"),)
    return ()


class VerificationServicer(pb_grpc.VerificationServiceServicer):
    """Serves one engine to at most `max_sessions` devices at once."""

    def __init__(self, engine: Engine, batcher: Batcher, max_sessions: int, idle_s: float | None = None) -> None:
        self._engine = engine
        self._batcher = batcher
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._departures = Departures()
        self._numbers = itertools.count(1)
        self._live: set[int] = set()
        self._draining = Draining()

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._live)

    def drain(self) -> None:
        """Refuse new sessions from now on; of those open, the ones in a round finish it, and then all go elsewhere."""
        self._draining.begin()

    async def Verify(  # noqa: N802 (the name is the protocol's)
        self,
        request_iterator: AsyncIterator[pb.VerifyRequest],
        context: grpc.aio.ServicerContext[pb.VerifyRequest, pb.VerifyResponse],
    ) -> AsyncIterator[pb.VerifyResponse]:
        """One session; see proto/uihlm/v1/verification.proto for the order of messages."""
        session: Session | None = None
        if self._idle_s is not None:
            request_iterator = unless_idle(request_iterator, self._idle_s)
        try:
            async for request in self._draining.requests(request_iterator):
                if session is None:
                    # Not before it has spoken: a client whose first write fails never gets to read why.
                    session = Session(self._admit(), self._engine, self._batcher)
                match request.WhichOneof("message"):
                    case "open":
                        yield pb.VerifyResponse(ready=await session.open(request.open))
                    case "upload":
                        async for verdict in session.upload(request.upload):
                            yield pb.VerifyResponse(verdict=verdict)
                    case _:
                        raise InvalidRequestError("a request holds open or upload, got neither")
        except UihlmError as error:
            await context.abort(STATUS[type(error)], str(error), trailing(error))
        finally:
            if session is not None:
                self._release(session.number)

    async def Score(  # noqa: N802 (the name is the protocol's)
        self, request: pb.ScoreRequest, context: grpc.aio.ServicerContext[pb.ScoreRequest, pb.ScoreResponse]
    ) -> pb.ScoreResponse:
        """Log-probabilities of the target ids at temperature 1."""
        number: int | None = None
        try:
            number = self._admit()
            return pb.ScoreResponse(log_probabilities=await self._score(number, request))
        except UihlmError as error:
            await context.abort(STATUS[type(error)], str(error), trailing(error))
            raise AssertionError("abort raises") from error
        finally:
            if number is not None:
                self._release(number)

    def _admit(self) -> int:
        self._draining.check()
        if len(self._live) >= self._max_sessions:
            retry_s = self._departures.retry_after_s()
            raise ExhaustedError(
                f"all {self._max_sessions} sessions are taken: try again later, in about {retry_s:g} s, or serve with a "
                "larger --max-sessions",
                retry_s,
            )
        number = next(self._numbers)
        self._live.add(number)
        return number

    def _release(self, number: int) -> None:
        self._live.discard(number)
        self._departures.note()
        self._batcher.close_session(number)

    async def _score(self, number: int, request: pb.ScoreRequest) -> list[float]:
        if request.tokenizer_fingerprint != self._engine.fingerprint:
            raise MismatchError("the ids to score come from another tokenizer than the LLM's")
        context_ids, target_ids = list(request.context_ids), list(request.target_ids)
        ids = [*context_ids, *target_ids]
        if not context_ids:
            raise InvalidRequestError("context_ids is empty: the first token has nothing to be scored against")
        if max(ids) >= self._engine.vocabulary_size:
            raise InvalidRequestError(
                f"token id {max(ids)} is outside the vocabulary of {self._engine.vocabulary_size}"
            )
        if len(ids) > self._engine.max_context:
            raise InvalidRequestError(f"{len(ids)} ids to score, a session here holds {self._engine.max_context}")
        scores: list[float] = []
        done = 0
        # The row after position i scores ids[i + 1]; the last id need not be run.
        first, end = len(context_ids) - 1, len(ids) - 1
        while done < end:
            stop = min(first, end) if done < first else min(done + AUDIT_ROWS, end)
            rows = 0 if done < first else stop - done
            forwarded = await self._batcher.forward(Work(number, done, ids[done:stop], rows))
            for offset in range(rows):
                row = forwarded.rows[offset].astype(np.float64)
                row -= row.max()
                scores.append(float(row[ids[done + offset + 1]] - np.log(np.exp(row).sum())))
            done = stop
        return scores
