"""A base station inside this process, on a free loopback port: what `eval` and `chat` use when no server is named."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.server import BaseStation
from uihlm_basestation.serving import DEFAULT_SESSIONS
from uihlm_proto.addresses import Address
from uihlm_proto.loops import new_event_loop


@contextlib.contextmanager
def local_basestation(engine: Engine, max_sessions: int = DEFAULT_SESSIONS) -> Iterator[Address]:
    """Serve an engine on 127.0.0.1 from a thread with an event loop of its own, and yield the address.

    The protocol, the bytes and the client are those of a remote base station; only the process is shared.
    """
    loop = new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="basestation", daemon=True)
    thread.start()

    async def start() -> tuple[BaseStation, Address]:
        station = BaseStation(engine, max_sessions)
        return station, await station.start()

    try:
        station, address = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield address
        finally:
            asyncio.run_coroutine_threadsafe(station.stop(grace_s=0.0), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
