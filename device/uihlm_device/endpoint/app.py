"""The HTTP application: routes, and the way of one answer from a completer to a client that may leave at any time.

    POST /v1/chat/completions   POST /v1/completions   GET /v1/models   GET /v1/models/{name}   GET /health

A stream's first bytes wait for the first piece of the answer, so that what goes wrong before has its own status; what goes
wrong later is an `error` event, after which the stream ends without [DONE]. A client that leaves closes the completer's
generator at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from uihlm_device.endpoint import answers
from uihlm_device.endpoint.answers import ChatForm, Form, TextForm
from uihlm_device.endpoint.completer import Completer, Finished, Written
from uihlm_device.endpoint.gate import Gate
from uihlm_device.endpoint.parameters import Parameters, chat_parameters, text_parameters
from uihlm_device.endpoint.refusals import Refusal
from uihlm_models.errors import ModelError
from uihlm_proto.errors import UihlmError, UnavailableError

_LOG = logging.getLogger(__name__)

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # Some proxies gather a response before they pass it on.
    (b"x-accel-buffering", b"no"),
]
_ENDING = "this endpoint is shutting down: ask again later"
Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """The application's handlers over one completer."""

    def __init__(self, completer: Completer, gate: Gate) -> None:
        self._completer = completer
        self._gate = gate
        self._since = int(time.time())

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        parameters = chat_parameters(await self._gate.body(request))
        return self._answer(parameters, ChatForm(self._completer.card))

    async def text(self, request: Request) -> Response:
        """Continue a text."""
        parameters = text_parameters(await self._gate.body(request))
        return self._answer(parameters, TextForm(self._completer.card))

    async def models(self, request: Request) -> Response:
        """List what is served."""
        return JSONResponse({"object": "list", "data": [answers.model(self._completer.card, self._since)]})

    async def model(self, request: Request) -> Response:
        """Describe one model."""
        self._check_model(request.path_params["name"])
        return JSONResponse(answers.model(self._completer.card, self._since))

    async def health(self, request: Request) -> Response:
        """Say that the endpoint lives; to whomever asks."""
        return JSONResponse(answers.health(self._completer.load))

    def guarded(self, handler: Handler) -> Handler:
        """Return a handler behind the gate."""

        async def behind(request: Request) -> Response:
            self._gate.check(request)
            return await handler(request)

        return behind

    def _answer(self, parameters: Parameters, form: Form) -> Response:
        self._check_model(parameters.model)
        return _Answer(self._completer, parameters, form)

    def _check_model(self, name: str) -> None:
        served = self._completer.card.name
        if name != served:
            raise Refusal(
                404, f"there is no model {name[:100]!r} here: ask for {served}", param="model", code="model_not_found"
            )


class _Answer(Response):
    """Writes one answer for as long as somebody reads it."""

    def __init__(self, completer: Completer, parameters: Parameters, form: Form) -> None:
        super().__init__()
        self._completer = completer
        self._parameters = parameters
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write; called by Starlette."""
        started = asyncio.Event()
        work = asyncio.ensure_future(self._write(scope, receive, send, started))
        gone = asyncio.ensure_future(_gone(receive))
        ending = False
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The server ends, and the time it gave to answers is over: this one says so, and is over as well.
            ending = True
        gone.cancel()
        work.cancel()
        # The generator is closed by its own task; of a client that has left, nobody reads what it says now.
        await asyncio.wait({work, gone})
        if ending:
            await self._refuse(UnavailableError(_ENDING), scope, receive, send, started)
        elif not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _write(self, scope: Scope, receive: Receive, send: Send, started: asyncio.Event) -> None:
        events = self._completer.complete(self._parameters.asked)
        try:
            async with contextlib.aclosing(events):
                if self._parameters.stream:
                    await self._stream(events, send, started)
                else:
                    response = await self._whole(events)
                    started.set()
                    await response(scope, receive, send)
        except Exception as error:
            await self._refuse(error, scope, receive, send, started)

    async def _refuse(
        self, error: Exception, scope: Scope, receive: Receive, send: Send, started: asyncio.Event
    ) -> None:
        """Say what went wrong: as a response of its own, or at the end of a stream that has begun."""
        refusal = _told(error)
        if not started.is_set():
            await _refused(refusal)(scope, receive, send)
            return
        await _send(send, refusal.body)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _whole(self, events: AsyncIterator[Written | Finished]) -> Response:
        texts: list[str] = []
        async for event in events:
            if isinstance(event, Finished):
                return JSONResponse(self._form.answer("".join(texts), event))
            texts.append(event.text)
        raise RuntimeError("an answer ended without saying why")

    async def _stream(self, events: AsyncIterator[Written | Finished], send: Send, started: asyncio.Event) -> None:
        event = await anext(events)
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        started.set()
        if (opening := self._form.opening()) is not None:
            await _send(send, opening)
        while isinstance(event, Written):
            await _send(send, self._form.chunk(event.text))
            event = await anext(events)
        await _send(send, self._form.last(event))
        if self._parameters.usage:
            await _send(send, self._form.bill(event))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def _send(send: Send, event: Mapping[str, Any]) -> None:
    line = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    await send({"type": "http.response.body", "body": f"data: {line}\n\n".encode(), "more_body": True})


async def _gone(receive: Receive) -> None:
    """Return once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _told(error: Exception) -> Refusal:
    """Return what a client is told of an error; a defect goes to the log as well."""
    if not isinstance(error, Refusal | UihlmError | ModelError):
        _LOG.error("a defect in the endpoint", exc_info=error)
    return Refusal.of(error)


def _refused(refusal: Refusal) -> Response:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if isinstance(error, HTTPException):
        what = {404: f"there is no {request.url.path} here", 405: f"{request.url.path} does not take {request.method}"}
        words = what.get(error.status_code, str(error.detail))
        return _refused(Refusal(error.status_code, words, headers=error.headers))
    return _refused(_told(error))


async def _on_defect(request: Request, error: Exception) -> Response:
    # Starlette raises it again, and the server logs it.
    return _refused(Refusal.of(error))


def application(
    completer: Completer,
    gate: Gate,
    lifespan: Callable[[Any], contextlib.AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """Return the ASGI application of an endpoint; `lifespan` is entered when it starts and left when it ends."""
    endpoint = Endpoint(completer, gate)
    routes = [
        Route("/v1/chat/completions", endpoint.guarded(endpoint.chat), methods=["POST"]),
        Route("/v1/completions", endpoint.guarded(endpoint.text), methods=["POST"]),
        Route("/v1/models", endpoint.guarded(endpoint.models), methods=["GET"]),
        Route("/v1/models/{name:path}", endpoint.guarded(endpoint.model), methods=["GET"]),
        Route("/health", endpoint.health, methods=["GET"]),
    ]
    caught: list[type[Exception]] = [Refusal, UihlmError, ModelError, HTTPException, ClientDisconnect]
    handlers: dict[Any, Any] = {Exception: _on_defect, **dict.fromkeys(caught, _on_error)}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
