"""One replica of a pool: an engine, a batcher and the servicer, as Ray Serve calls them.

Ray passes a request stream and a context of its own. The servicer gets both in gRPC's shape, and knows nothing of Ray; nor
does this module import it, so that it can be tested without.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NoReturn

import grpc

from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_basestation.servicer import STATUS, VerificationServicer
from uihlm_basestation.serving import Serving
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto.errors import AccessError
from uihlm_proto.token_set import TokenSet
from uihlm_proto.v1 import verification_pb2 as pb

Metadata = Sequence[tuple[str, str]]


def load_named(model: str, settings: EngineSettings) -> Engine:
    """Return the engine of a model by name; a function of this module, so that a replica in another process finds it."""
    return load_engine(resolve(model, Role.TARGET), settings)


class CallEndedError(Exception):
    """A call was ended with a status, which the context holds."""


class BorderContext:
    """What the servicer asks of a gRPC context, on top of Ray's."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status."""
        self._context.set_code(code)
        self._context.set_details(details)
        self._context.set_trailing_metadata(list(trailing_metadata))
        raise CallEndedError(f"{code.name}: {details}")

    def code(self) -> grpc.StatusCode | None:
        """Return the status it was ended with, if it was."""
        code: grpc.StatusCode | None = self._context.code()
        return code

    def cancelled(self) -> bool:
        """Return False: Ray ends the request stream of a device that is gone, and says no more."""
        return False

    def invocation_metadata(self) -> Metadata:
        """Return what the device sent along."""
        sent: Metadata = self._context.invocation_metadata()
        return sent


class Replica:
    """A base station's service without a server. Its methods are named after the protocol's, as Ray routes by name."""

    def __init__(
        self,
        load: Callable[[], Engine],
        max_sessions: int,
        serving: Serving,
        tokens: TokenSet | None = None,
    ) -> None:
        """Load the LLM; a replica takes calls once this has returned.

        Args:
            load: returns the engine, in the replica's own process and on its own GPU.
            max_sessions: devices this replica serves at once.
            serving: how the engine is shared.
            tokens: one of them opens a call; None asks for none.
        """
        engine = load()
        self._description = engine.description
        self._tokens = tokens
        self._batcher = Batcher(engine, chunk=serving.chunk, max_batch=serving.max_batch)
        self._servicer = VerificationServicer(engine, self._batcher, max_sessions, serving.idle_s)

    def description(self) -> str:
        """Return the engine's description."""
        return self._description

    async def Verify(  # noqa: N802 (the name is the protocol's)
        self, requests: AsyncIterator[pb.VerifyRequest], grpc_context: Any
    ) -> AsyncIterator[pb.VerifyResponse]:
        """Serve one stream; it stays with this replica until it ends."""
        context: Any = BorderContext(grpc_context)
        await self._admit(context)
        # Closed with the call, however it ends, so that its session is freed.
        answers: Any = self._servicer.Verify(requests, context)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer

    async def Score(self, request: pb.ScoreRequest, grpc_context: Any) -> pb.ScoreResponse:  # noqa: N802 (as above)
        """Score ids."""
        context: Any = BorderContext(grpc_context)
        await self._admit(context)
        return await self._servicer.Score(request, context)

    async def _admit(self, context: BorderContext) -> None:
        try:
            if self._tokens is not None:
                self._tokens.name_of(context.invocation_metadata())
        except AccessError as error:
            await context.abort(STATUS[type(error)], str(error))
