"""Plays a case on a channel and holds what comes back against what may."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field

import grpc

from benchmarks.fuzz.cases import Case, End, Step
from benchmarks.fuzz.messages.belief import Belief
from benchmarks.fuzz.messages.mutation import is_last, parsed
from benchmarks.fuzz.messages.wrong import EITHER
from uihlm_proto.v1 import verification_pb2 as pb

VERIFY = "/uihlm.v1.VerificationService/Verify"
Metadata = tuple[tuple[str, str], ...]


class WrongAnswerError(Exception):
    """The base station answered as it may not."""


@dataclass(slots=True)
class Tally:
    """What was said and answered.

    Attributes:
        messages: answered or refused, each for itself; what was sent to a stream that had ended is not among them.
        cases: played.
        statuses: how often each status came, by the kind of what it answers.
    """

    messages: int = 0
    cases: int = 0
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, kind: str, status: str, messages: int = 1) -> None:
        """Count messages of a kind and the status of the last."""
        self.messages += messages
        self.statuses[kind, status] += messages


async def play_stream(channel: grpc.aio.Channel, metadata: Metadata, case: Case, tally: Tally) -> None:
    """Play one Verify stream; WrongAnswerError says which step was answered wrongly."""
    verify = channel.stream_stream(VERIFY, None, pb.VerifyResponse.FromString)
    call, belief = verify(metadata=metadata), Belief()
    try:
        step: Step | End = case.first(belief)
        while isinstance(step, Step):
            if not await _step(call, belief, step, tally):
                return
            step = case.next(belief)
        await _end(call, belief, step, case, tally)
    finally:
        # Of a stream that has ended this does nothing.
        call.cancel()


async def _step(call: grpc.aio.StreamStreamCall, belief: Belief, step: Step, tally: Tally) -> bool:
    """Send a step and read its answers; return whether the stream goes on."""
    for raw in step.raw:
        await call.write(raw)
    for index, raw in enumerate(step.raw):
        request = parsed(raw)
        answers: list[pb.VerifyResponse] = []
        try:
            while not answers or (request is not None and not is_last(request, answers)):
                answer = await call.read()
                if answer is grpc.aio.EOF:
                    raise WrongAnswerError(f"{step.kind}: the stream ended with OK in the middle of a round")
                answers.append(answer)
        except grpc.aio.AioRpcError as error:
            _check_refusal(step, index, error)
            tally.note(step.kind, error.code().name)
            return False
        if request is None or step.must:
            raise WrongAnswerError(f"{step.kind}: was answered by {answers[0]}")
        _check_answers(step, request, answers)
        belief.take(request, answers)
        belief.sure = belief.sure and not step.codes
        tally.note(step.kind, "answered")
    return True


def _check_refusal(step: Step, index: int, error: grpc.aio.AioRpcError) -> None:
    said = f"{step.kind}: refused with {error.code().name}: {error.details()!r}"
    if error.code() not in step.codes:
        raise WrongAnswerError(said)
    if index < len(step.raw) - 1:
        raise WrongAnswerError(f"{said}, {len(step.raw) - index} messages early")
    if not error.details() or not error.details().isprintable():
        raise WrongAnswerError(f"{said}, which is no sentence for people")


def _check_answers(step: Step, request: pb.VerifyRequest, answers: list[pb.VerifyResponse]) -> None:
    what = "ready" if request.HasField("open") else "verdict"
    asked = (request.open if request.HasField("open") else request.upload).round
    for answer in answers:
        if answer.WhichOneof("message") != what or getattr(answer, what).round != asked:
            raise WrongAnswerError(f"{step.kind}: round {asked} was answered by {answer}")
    if step.kind == "stale" and not answers[0].verdict.stale:
        raise WrongAnswerError(f"{step.kind}: an old epoch was judged: {answers[0]}")


async def _end(call: grpc.aio.StreamStreamCall, belief: Belief, end: End, case: Case, tally: Tally) -> None:
    if end is End.HALF_CLOSE:
        await call.done_writing()
        if await call.read() is not grpc.aio.EOF:
            raise WrongAnswerError("half-close: something came after everything was answered")
        if await call.code() is not grpc.StatusCode.OK:
            raise WrongAnswerError(f"half-close: {await call.code()} {await call.details()}")
        tally.note("half-close", "OK", 0)
        return
    if end is End.CANCEL_IN_ROUND and belief.room > 0:
        upload = pb.Upload(round=1, epoch=belief.epoch, first_position=belief.length, generate=case.rng.randint(1, 90))
        await call.write(pb.VerifyRequest(upload=upload).SerializeToString())
        if case.rng.random() < 0.5:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call.read()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        code = await call.code()
        # A session whose books may be wrong may have been refused before.
        if code is not grpc.StatusCode.CANCELLED and (belief.sure or code not in EITHER):
            raise WrongAnswerError(f"{end.value}: {code} {await call.details()}")
    tally.note(end.value, "CANCELLED", 0)
