"""The floor of a verification round: the same trip with nothing in it but what the contract does not let one leave out.

    caller's thread → client's event loop → an interceptor that weighs the message → grpc.aio stream over loopback →
    server's event loop → engine's thread (one forward of the same model, arithmetic of the verdict) → server's event loop →
    stream → interceptor → loop → caller

The protocol's messages, but no session behind them, no batcher, no link, no ledger, no checks. The arithmetic is the
verdict's own: for `coupled`, the race and y_d; for `dense32`, the payload's floats, y and the residual rule. Where an upload
says that the LLM shall run on, the next forward begins in the same thread as soon as the token is known, before the figures.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import numpy as np
import numpy.typing as npt

from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.verification import Judgement, judge_coupled, judge_residual
from uihlm_device.stream.session import RunOn
from uihlm_proto.codecs import Codec, Judge
from uihlm_proto.encoded import bytes_of, size_of
from uihlm_proto.loops import new_event_loop
from uihlm_proto.randomness import Role, words
from uihlm_proto.sampling import Row, Sampling
from uihlm_proto.v1 import verification_pb2 as pb

_SESSION = 1_000_000
_PROMPT = [1, 2, 3, 4, 5]
_MESSAGE_BYTES = 1 << 24


class Weigher(grpc.aio.StreamStreamClientInterceptor):
    """Weighs what passes, and nothing else."""

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        self.bytes = 0
        return self._responses(await continuation(client_call_details, self._requests(request_iterator)))

    async def _requests(self, source: AsyncIterator[pb.VerifyRequest]) -> AsyncIterator[pb.VerifyRequest]:
        async for request in source:
            self.bytes += size_of(request)
            yield request

    async def _responses(self, call: Any) -> AsyncIterator[pb.VerifyResponse]:
        async for response in call:
            self.bytes += response.ByteSize()
            yield response


class BareTrip:
    """A stream that asks for one forward and one verdict a message. A context manager."""

    def __init__(self, engine: Engine, codec: Codec, sampling: Sampling, key: bytes) -> None:
        self._engine = engine
        self._codec = codec
        self._sampling = sampling
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[pb.VerifyResponse] = queue.SimpleQueue()
        self._noise = words(key, Role.GUMBEL, 0, codec.vocabulary_size)
        self._ran = len(_PROMPT)
        self._loops = [new_event_loop() for _ in range(2)]
        threads = [threading.Thread(target=loop.run_forever, daemon=True) for loop in self._loops]
        threads.append(threading.Thread(target=self._run_engine, daemon=True))
        for thread in threads:
            thread.start()

    def __enter__(self) -> BareTrip:
        """Start the server, open the stream, prefill."""
        server_loop, client_loop = self._loops
        port = asyncio.run_coroutine_threadsafe(self._serve(), server_loop).result()
        self._requests: asyncio.Queue[pb.VerifyRequest | None] = asyncio.Queue()
        self._reader = asyncio.run_coroutine_threadsafe(self._read(port), client_loop)
        self._engine.forward([Work(_SESSION, 0, _PROMPT, 1)])
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop everything."""
        server_loop, client_loop = self._loops
        client_loop.call_soon_threadsafe(self._requests.put_nowait, None)
        self._reader.result()
        asyncio.run_coroutine_threadsafe(self._server.stop(None), server_loop).result()
        self._jobs.put(None)
        self._engine.close_session(_SESSION)

    def round(self, payload: bytes, run_on: RunOn = RunOn.NO) -> tuple[float, float]:
        """Send one message and wait for its answer; return (seconds of the trip, seconds of the forward it judged)."""
        started_s = time.perf_counter()
        upload = pb.Upload(round=1, first_position=1, run_on=cast("pb.RunOn", int(run_on)))
        upload.drafts.add(payload=payload)
        self._loops[1].call_soon_threadsafe(self._requests.put_nowait, pb.VerifyRequest(upload=upload))
        verdict = self._answers.get().verdict
        assert len(verdict.y_d) == 1
        return time.perf_counter() - started_s, verdict.cost.forward_s

    def _run_engine(self) -> None:
        ahead: tuple[npt.NDArray[np.float32], float] | None = None
        while (job := self._jobs.get()) is not None:
            loop, done, upload = job
            row, forward_s = ahead or self._forward()
            judgement = self._judge(upload, Row(row, self._sampling))
            loop.call_soon_threadsafe(done.set_result, (judgement, forward_s))
            ahead = self._forward() if upload.run_on == pb.RUN_ON_NOW else None

    def _forward(self) -> tuple[npt.NDArray[np.float32], float]:
        started_s = time.perf_counter()
        rows = self._engine.forward([Work(_SESSION, self._ran, [7], 1)])
        self._ran += 1
        return rows[0][0], time.perf_counter() - started_s

    def _judge(self, upload: pb.Upload, y: Row) -> Judgement:
        draft = self._codec.decode(upload.drafts[0].payload)
        if self._codec.judge is Judge.COUPLED:
            return judge_coupled(draft.token, y, self._noise)
        assert draft.x_hat is not None
        return judge_residual(draft.token, draft.x_hat, y.distribution(), 0.5, 0.5)

    async def _verify(
        self, requests: AsyncIterator[pb.VerifyRequest], context: object
    ) -> AsyncIterator[pb.VerifyResponse]:
        loop = asyncio.get_running_loop()
        async for request in requests:
            done: asyncio.Future[tuple[Judgement, float]] = loop.create_future()
            self._jobs.put((loop, done, request.upload))
            judgement, forward_s = await done
            cost = pb.Cost(forwards=1, forward_s=forward_s)
            yield pb.VerifyResponse(
                verdict=pb.Verdict(round=1, token_id=judgement.replacement, y_d=[judgement.figures().y_d], cost=cost)
            )

    async def _serve(self) -> int:
        options = [("grpc.max_receive_message_length", _MESSAGE_BYTES)]
        self._server = grpc.aio.server(options=options)
        handler = grpc.stream_stream_rpc_method_handler(
            self._verify, pb.VerifyRequest.FromString, pb.VerifyResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Trip", {"Go": handler}),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    async def _read(self, port: int) -> None:
        async def outgoing() -> AsyncIterator[pb.VerifyRequest]:
            while (request := await self._requests.get()) is not None:
                yield request

        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options, interceptors=[Weigher()]) as channel:
            go = channel.stream_stream("/bare.Trip/Go", bytes_of, pb.VerifyResponse.FromString)
            async for answer in go(outgoing()):
                self._answers.put(answer)
