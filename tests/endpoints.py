"""An endpoint under test: the command in a thread of this process, or its application called as a server would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from fake_pair import STOP, V
from fakes import Logits, contextual
from stations import eventually
from uihlm_cli.device import main
from uihlm_device.endpoint import server
from uihlm_device.endpoint.completer import Asked, Card, Ending, Finished, Load, Written
from uihlm_device.endpoint.metering import AnswerJoules
from uihlm_device.turn import Turn
from uihlm_wireless.energy import Joules

CARD = Card("uihlm", "hlm", "coupled", "small", "large", 64, "uihlm-f", scores=True)


def finished(**changes: Any) -> Finished:
    """The end of an answer that is right but for the changes."""
    turn = Turn(answers=1, tokens=4, uploaded=4, rejected=1, llm_forwards=4, llm_positions=8, model_bits=64)
    fields = {
        "ending": Ending.STOP,
        "prompt_tokens": 3,
        "reused_tokens": 0,
        "seed": 7,
        "turn": turn,
        "joules": Joules(1.0, 0.5, 2.0),
        "measured": AnswerJoules(),
        "waited_s": 0.0,
        "lost_links": 0,
        "scores": None,
    }
    return Finished(**(fields | changes))


class ScriptedCompleter:
    """A completer that says what it is told to, and notes what it was asked and whether it was closed."""

    card = CARD
    load = Load(0, 0)

    def __init__(self, *events: Written | Finished | Exception, pause_s: float = 0.0) -> None:
        self.events = events
        self.pause_s = pause_s
        self.asked: list[Asked] = []
        self.open = 0

    async def complete(self, asked: Asked) -> AsyncGenerator[Written | Finished]:
        self.asked.append(asked)
        self.open += 1
        try:
            for event in self.events:
                await asyncio.sleep(self.pause_s)
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.open -= 1


class Reply:
    """What an application sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.whole = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The data of each event of a stream; [DONE] as it is."""
        lines = [line.removeprefix("data: ") for line in self.body.decode().split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


def call(
    app: Any,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    leaves: int | None = None,
    cancelled: int | None = None,
) -> Reply:
    """Call an application as a server does; the client `leaves`, or the call is `cancelled`, after so many messages."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    shown = {"host": "127.0.0.1:8080", "content-type": "application/json", **(headers or {})}
    reply, sent = Reply(), 0

    async def run() -> None:
        requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        requests.put_nowait({"type": "http.request", "body": raw, "more_body": False})
        task: asyncio.Task[Any] | None = None

        def reached() -> None:
            if sent == leaves:
                requests.put_nowait({"type": "http.disconnect"})
            if sent == cancelled and task is not None:
                task.cancel()

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.body += message["body"]
                reply.whole = not message.get("more_body", False)
            sent += 1
            reached()
            await asyncio.sleep(0)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in shown.items() if value],
        }
        task = asyncio.ensure_future(app(scope, requests.get, send))
        await asyncio.sleep(0.01)
        reached()
        await task

    asyncio.run(asyncio.wait_for(run(), 20))
    return reply


class Served:
    """The command `serve`, running.

    Attributes:
        url: its base address.
        stop: ends it as SIGTERM does.
    """

    def __init__(self, running: server._Server, url: str) -> None:
        self._running = running
        self.url = url

    def stop(self) -> None:
        self._running.should_exit = True


@contextlib.contextmanager
def served(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Iterator[Served]:
    """Run `uihlm-device serve --port 0` in a thread, on whatever weights stand in for the pair's."""
    running: list[server._Server] = []
    ended: list[BaseException | None] = []

    class Noted(server._Server):
        def __init__(self, *settings: Any) -> None:
            super().__init__(*settings)
            running.append(self)

    def serve() -> None:
        try:
            main(["serve", "--port", "0", *arguments], standalone_mode=False)
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    monkeypatch.setattr(server, "_Server", Noted)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert eventually(lambda: bool(ended) or bool(running and running[0].started)), "the endpoint does not come up"
    assert not ended, ended
    port = running[0].servers[0].sockets[0].getsockname()[1]
    held = Served(running[0], f"http://127.0.0.1:{port}/v1")
    try:
        yield held
    finally:
        held.stop()
        thread.join(20)
        assert ended == [None], ended


def wordy(salt: int, stops: bool = True) -> Logits:
    """A model that writes what can be read, and ends an answer seldom, or never."""
    logits = contextual(V, salt, window=12)

    def readable(ids: Sequence[int]) -> np.ndarray:
        z = logits(ids)
        ending = z[STOP] if stops else -60.0
        z[:32] = z[127:] = -60.0
        z[STOP] = ending
        return z

    return readable


def slowly(seconds: float) -> Any:
    """What a drafter does before each draft: let time pass."""
    return lambda weights: time.sleep(seconds)
