"""The endpoint's server: uvicorn on a socket of ours, TLS, and an end that lets answers under way finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from uihlm_device.endpoint.app import application
from uihlm_device.endpoint.gate import Gate
from uihlm_device.endpoint.split import SplitCompleter
from uihlm_proto.addresses import is_loopback
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.loops import new_event_loop
from uihlm_proto.token_set import TokenSet

_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and to whom an endpoint listens.

    Attributes:
        host, port: port 0 takes a free one.
        certificate, key: PEM; None listens without TLS.
        client_ca: authorities of the clients' certificates, PEM; None asks clients for none.
        keys: API keys; None asks for none.
        grace_s: how long answers may go on once it is told to end.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    keys: TokenSet | None = None
    grace_s: float = 30.0

    def address(self, port: int) -> str:
        """Return the base address that clients are given."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{port}/v1"


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def serve(completer: SplitCompleter, listening: Listening, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT: then take nothing new, finish what was asked, within the grace, and return.

    Raises:
        InvalidRequestError: if it cannot listen there.
    """
    gate = Gate(listening.keys, is_loopback(listening.host))

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await completer.close()

    listener = _listener(listening)
    bound = listener.getsockname()[1]
    config = uvicorn.Config(
        application(completer, gate, lifespan),
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom a request comes from plays no part; a header that says so is not believed.
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(listening.grace_s)),
        ssl_certfile=listening.certificate,
        ssl_keyfile=None if listening.key is None else str(listening.key),
        ssl_ca_certs=None if listening.client_ca is None else str(listening.client_ca),
        ssl_cert_reqs=ssl.CERT_NONE if listening.client_ca is None else ssl.CERT_REQUIRED,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = _Server(config, lambda: on_ready(listening.address(bound)))
    with listener, _quiet_signals(), asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(server.serve([listener]))


def _listener(listening: Listening) -> socket.socket:
    try:
        found = socket.getaddrinfo(listening.host, listening.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise InvalidRequestError(
            f"cannot listen on {listening.host}:{listening.port} ({error.strerror}): choose another with --host and --port"
        ) from error
    return listener


@contextlib.contextmanager
def _quiet_signals() -> Iterator[None]:
    """Let the server's own handlers have the last word: it sends itself the signals that ended it once more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
