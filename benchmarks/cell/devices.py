"""Simulated devices: the real protocol over loopback, many of them on one event loop.

    closed loop   the next upload leaves as soon as the verdict is in
    paced         a device drafts for `draft_s` a token and writes at most `rate` tokens/s

A device replays uploads (benchmarks/cell/traces.py) and follows the base station's verdicts: positions and epochs are its own,
so a verdict that differs from the recorded one costs nothing. With an `Air` every upload waits for its turn on it. Each device
enters its first answer at a place of its own, so that prompts come one by one and not all at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.cell.traces import Step, Trace
from uihlm_proto.limits import PROTOCOL_VERSION, max_request_bytes
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    # Devices are machines apart: each has a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True, slots=True)
class Contract:
    """What every device of a cell tells the base station."""

    fingerprint: bytes
    vocabulary_size: int
    codec: str
    temperature: float = 0.6


class Air:
    """A band that the devices of a cell share: one upload at a time, first come, first served."""

    def __init__(self, bit_s: float) -> None:
        """Share a link of so many bits a second."""
        self._bit_s = bit_s
        self._free_s = 0.0

    async def send(self, bits: float) -> None:
        """Wait until an upload of so many bits is through."""
        now_s = time.perf_counter()
        self._free_s = max(now_s, self._free_s) + bits / self._bit_s
        await asyncio.sleep(self._free_s - now_s)


@dataclass(slots=True)
class Tally:
    """What one device saw between start and end.

    Attributes:
        verdict_s: from each upload to its verdict.
        queue_s, forward_s: of each verdict, as the base station said.
        opening_s: from the end of each answer to the session of the next, its prompt run.
        away_s: of these, what lies between start and end: nothing can be written meanwhile.
        tokens: committed.
        sent_bytes: of all uploads.
    """

    verdict_s: list[float] = field(default_factory=list)
    queue_s: list[float] = field(default_factory=list)
    forward_s: list[float] = field(default_factory=list)
    opening_s: list[float] = field(default_factory=list)
    away_s: float = 0.0
    tokens: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a device is.

    Attributes:
        draft_s: seconds it takes to draft a token.
        rate: tokens/s it writes at most; None is as many as it can.
    """

    draft_s: float = 0.0
    rate: float | None = None

    def wait_s(self, trace: Trace) -> float:
        """Return the seconds between two uploads of an answer, on average, if nothing is late."""
        return trace.tokens / len(trace.steps) / self.rate if self.rate else 0.0


FREE = Pace()


@dataclass(slots=True)
class Window:
    """When it counts, in seconds of `time.perf_counter`; set once every device stands."""

    start_s: float = math.inf
    end_s: float = math.inf

    def holds(self, now_s: float) -> bool:
        """Return whether something that ends now counts."""
        return self.start_s <= now_s < self.end_s

    def share_s(self, since_s: float, until_s: float) -> float:
        """Return how many seconds of a stretch of time lie within."""
        return max(0.0, min(until_s, self.end_s) - max(since_s, self.start_s))


class Device:
    """One device."""

    def __init__(
        self,
        target: str,
        contract: Contract,
        traces: Sequence[Trace],
        first: int,
        pace: Pace = FREE,
        air: Air | None = None,
    ) -> None:
        """Prepare a device that replays `traces`, the one numbered `first` first."""
        self.tally = Tally()
        self._contract = contract
        self._traces = traces
        self._next = first
        # Multiples of the golden ratio, less their whole part: however many there are, they lie evenly.
        self._phase = first * 0.618033988749895 % 1.0
        self._pace = pace
        self._air = air
        limit = max_request_bytes(contract.vocabulary_size, 1 << 16)
        self._channel = grpc.aio.insecure_channel(target, options=[*_OPTIONS, ("grpc.max_send_message_length", limit)])
        self._stub = pb_grpc.VerificationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._due_s = 0.0
        self._round = 0

    async def run(self, window: Window, opened: asyncio.Barrier) -> None:
        """Write answer after answer until the window ends; the barrier opens once every device has a session."""
        begun = False
        since_s = time.perf_counter()
        while since_s < window.end_s:
            trace = self._traces[self._next % len(self._traces)]
            call: Any = self._stub.Verify()
            await call.write(pb.VerifyRequest(open=self._open(trace)))
            await self._read(call)
            self._note_opening(window, since_s, time.perf_counter())
            skipped, wait_s = 0, 0.0
            if not begun:
                await opened.wait()
                begun = True
                skipped, wait_s = int(self._phase * len(trace.steps)), self._phase * self._pace.wait_s(trace)
            await self._answer(call, trace, trace.steps[skipped:], time.perf_counter() + wait_s, window)
            since_s = time.perf_counter()
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
            self._next += 1
        await self._channel.close()

    def _open(self, trace: Trace) -> pb.Open:
        contract = self._contract
        self._round += 1
        return pb.Open(
            round=self._round,
            protocol_version=PROTOCOL_VERSION,
            tokenizer_fingerprint=contract.fingerprint,
            vocabulary_size=contract.vocabulary_size,
            prefix_ids=trace.prompt,
            sampling=pb.Sampling(temperature=contract.temperature),
            codec=contract.codec,
            session_key=session_key(trace.seed, trace.index),
        )

    async def _read(self, call: Any) -> pb.VerifyResponse:
        response = await call.read()
        if response is grpc.aio.EOF:
            raise RuntimeError(f"the base station ended a session: {await call.code()}, {await call.details()}")
        assert isinstance(response, pb.VerifyResponse)
        return response

    async def _answer(self, call: Any, trace: Trace, steps: Sequence[Step], due_s: float, window: Window) -> None:
        position, epoch = len(trace.prompt), 0
        self._due_s = due_s
        for step in steps:
            await self._draft(len(step.skipped) + len(step.payloads))
            position += len(step.skipped)
            self._round += 1
            upload = pb.Upload(
                round=self._round,
                epoch=epoch,
                first_position=position,
                skipped_ids=step.skipped,
                drafts=[pb.Draft(payload=payload) for payload in step.payloads],
                generate=step.generate,
                run_on=pb.RUN_ON_NOW if step.runs_on else pb.RUN_ON_UNSPECIFIED,
            )
            if self._air is not None:
                await self._air.send(8 * sum(map(len, step.payloads)))
            message = pb.VerifyRequest(upload=upload)
            since_s = time.perf_counter()
            await call.write(message)
            tokens, last = len(step.skipped), False
            # They are written with the upload; what the LLM writes, verdict by verdict.
            counted = tokens
            while not last:
                verdict = (await self._read(call)).verdict
                now_s = time.perf_counter()
                written = verdict.accepted + verdict.HasField("token_id")
                position += written
                tokens += written
                counted += written
                epoch += bool(step.payloads) and verdict.accepted < len(step.payloads)
                last = not step.generate or verdict.last
                if window.holds(now_s):
                    self._note(verdict, now_s - since_s)
                    self.tally.tokens += counted
                counted = 0
                since_s = now_s
            if window.holds(since_s):
                self.tally.sent_bytes += message.ByteSize()
            self._written(tokens)
            if since_s > window.end_s:
                return
        # The next answer begins when this one would have been written, not when its last verdict is in.
        await self._draft(trace.unasked)
        if window.holds(time.perf_counter()):
            self.tally.tokens += trace.unasked
        self._written(trace.unasked)
        await self._draft(0)

    def _written(self, tokens: int) -> None:
        if self._pace.rate is not None:
            self._due_s += tokens / self._pace.rate

    async def _draft(self, drafts: int) -> None:
        """Let the drafts take their time, and hold the pace; a device that fell behind does not make up for it."""
        now_s = time.perf_counter()
        until_s = now_s + drafts * self._pace.draft_s
        if self._pace.rate is not None:
            self._due_s = max(self._due_s, now_s)
            until_s = max(until_s, self._due_s)
        if until_s > now_s:
            await asyncio.sleep(until_s - now_s)

    def _note_opening(self, window: Window, since_s: float, until_s: float) -> None:
        within_s = window.share_s(since_s, until_s)
        if within_s > 0.0:
            self.tally.opening_s.append(until_s - since_s)
            self.tally.away_s += within_s

    def _note(self, verdict: pb.Verdict, took_s: float) -> None:
        self.tally.verdict_s.append(took_s)
        self.tally.queue_s.append(verdict.cost.queue_s)
        self.tally.forward_s.append(verdict.cost.forward_s)
