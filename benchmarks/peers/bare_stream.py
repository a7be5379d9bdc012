"""What bounds `llm`: the LLM's bare loop behind a grpc.aio stream, and only what the contract does not let one leave out.

    caller's thread → client's event loop → an interceptor that weighs the message → stream → server's event loop →
    engine's thread, which writes the whole answer by itself: forward, the draws of both ends, race, forward …
                    → server's event loop → a verdict a token → stream → interceptor → loop → caller

The protocol's messages, but no session behind them: no batcher in which others could wait, no bill, no checks, and nothing that
holds the LLM up where a device does not read. Its tokens are those of `llm`.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

import grpc

from benchmarks.bare_trip import Weigher
from benchmarks.peers.alone import Alone
from benchmarks.peers.peer import TEMPERATURE
from uihlm_proto.encoded import bytes_of
from uihlm_proto.loops import new_event_loop
from uihlm_proto.randomness import Draws, Role, session_key
from uihlm_proto.sampling import Sampling
from uihlm_proto.v1 import verification_pb2 as pb

_PATH = "/bare.Stream/Write"


class BareStream:
    """A stream over an LLM's loop (`Peer`). A context manager."""

    def __init__(self, alone: Alone) -> None:
        """Serve the loop of `alone`, which others may use between answers."""
        self._alone = alone
        self._sampling = Sampling(TEMPERATURE)
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._loops = [new_event_loop() for _ in range(2)]
        self._threads = [threading.Thread(target=loop.run_forever, daemon=True) for loop in self._loops]
        self._threads.append(threading.Thread(target=self._run_engine, daemon=True))
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        """Start the server and connect to it."""
        server_loop, client_loop = self._loops
        port = asyncio.run_coroutine_threadsafe(self._serve(), server_loop).result()
        asyncio.run_coroutine_threadsafe(self._connect(port), client_loop).result()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop everything."""
        server_loop, client_loop = self._loops
        asyncio.run_coroutine_threadsafe(self._channel.close(), client_loop).result()
        asyncio.run_coroutine_threadsafe(self._server.stop(None), server_loop).result()
        self._jobs.put(None)
        for loop in self._loops:
            loop.call_soon_threadsafe(loop.stop)
        for thread in self._threads:
            thread.join()
        for loop in self._loops:
            loop.close()

    def write(self, prompt: Sequence[int], tokens: int, seed: int) -> int:
        """Write an answer; see `Peer`."""
        return len(self.tokens(prompt, tokens, seed))

    def tokens(self, prompt: Sequence[int], tokens: int, seed: int) -> list[int]:
        """Return an answer: the ids that `llm` draws with the key of this seed."""
        requests = [
            pb.VerifyRequest(open=pb.Open(round=1, prefix_ids=prompt, session_key=session_key(seed, 0))),
            pb.VerifyRequest(upload=pb.Upload(round=2, first_position=len(prompt), generate=tokens)),
        ]
        answers: queue.SimpleQueue[pb.VerifyResponse | None] = queue.SimpleQueue()
        reader = asyncio.run_coroutine_threadsafe(self._read(requests, answers), self._loops[1])
        # Ready comes first; None ends the stream, well or not.
        verdicts = list(iter(answers.get, None))[1:]
        reader.result()
        return [answer.verdict.token_id for answer in verdicts]

    def _run_engine(self) -> None:
        while (job := self._jobs.get()) is not None:
            opening, count, tell = job
            try:
                self._answer(opening, count, tell)
            except Exception as error:
                tell(error)

    def _answer(self, opening: pb.Open, count: int, tell: Callable[[int], object]) -> None:
        runtime, draws = self._alone.runtime, Draws(opening.session_key)
        self._alone.prefill(opening.prefix_ids)
        start = len(opening.prefix_ids)
        for position in range(start, start + count):
            logits = runtime.logits()[0]
            token = self._sampling.race(logits, draws.words(Role.GUMBEL, position, logits.size))
            tell(token)
            if position + 1 < start + count:
                runtime.decode_one(token, position)

    async def _write(
        self, requests: AsyncIterator[pb.VerifyRequest], context: object
    ) -> AsyncIterator[pb.VerifyResponse]:
        opening = (await anext(requests)).open
        yield pb.VerifyResponse(ready=pb.Ready(round=1))
        async for request in requests:
            count = request.upload.generate
            drawn: asyncio.Queue[int | Exception] = asyncio.Queue()
            tell = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, drawn.put_nowait)
            self._jobs.put((opening, count, tell))
            for _ in range(count):
                if isinstance(token := await drawn.get(), Exception):
                    raise token
                yield pb.VerifyResponse(
                    verdict=pb.Verdict(round=2, token_id=token, cost=pb.Cost(forwards=1, positions=1))
                )

    async def _serve(self) -> int:
        self._server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            self._write, pb.VerifyRequest.FromString, pb.VerifyResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("bare.Stream", {"Write": handler}),)
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    async def _connect(self, port: int) -> None:
        options = [("grpc.enable_http_proxy", 0)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options, interceptors=[Weigher()])
        self._call: Any = self._channel.stream_stream(_PATH, bytes_of, pb.VerifyResponse.FromString)

    async def _read(
        self, requests: Sequence[pb.VerifyRequest], answers: queue.SimpleQueue[pb.VerifyResponse | None]
    ) -> None:
        async def outgoing() -> AsyncIterator[pb.VerifyRequest]:
            for request in requests:
                yield request

        try:
            async for answer in self._call(outgoing()):
                answers.put(answer)
        finally:
            answers.put(None)
