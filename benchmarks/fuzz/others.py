"""What else reaches a port: scores, health checks, strangers, unknown methods, messages too large, bytes that are no gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import random

import grpc
from grpc_health.v1 import health_pb2

from benchmarks.fuzz.cases import Case, Kind
from benchmarks.fuzz.engine import MAX_CONTEXT, VOCABULARY, TableEngine
from benchmarks.fuzz.messages.mutation import mutated
from benchmarks.fuzz.messages.right import ids, opening
from benchmarks.fuzz.messages.wrong import EITHER, INVALID, MISMATCH, TOO_LARGE, Codes
from benchmarks.fuzz.play import VERIFY, Metadata, Tally, WrongAnswerError, play_stream
from uihlm_proto.limits import max_request_bytes
from uihlm_proto.v1 import verification_pb2 as pb

_SCORE = "/uihlm.v1.VerificationService/Score"
_CHECK = "/grpc.health.v1.Health/Check"
_OK: Codes = frozenset({grpc.StatusCode.OK})
_UNKNOWN: Codes = frozenset({grpc.StatusCode.UNIMPLEMENTED})
_NOT_FOUND: Codes = frozenset({grpc.StatusCode.NOT_FOUND})
_STRANGE: Codes = frozenset({grpc.StatusCode.UNAUTHENTICATED})
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


async def play(channel: grpc.aio.Channel, port: int, metadata: Metadata, case: Case, tally: Tally) -> None:
    """Play one case of any kind; WrongAnswerError says what was answered wrongly."""
    rng = case.rng
    match case.kind:
        case Kind.STREAM:
            await play_stream(channel, metadata, case, tally)
        case Kind.SCORE:
            await _unary(channel, _SCORE, *_score(rng), metadata, tally)
        case Kind.STRANGER:
            await _stranger(channel, rng, tally)
        case Kind.OVERSIZE:
            raw = opening(rng).SerializeToString()
            raw += bytes(max_request_bytes(VOCABULARY, MAX_CONTEXT) + rng.randrange(100_000))
            await _one(channel, "oversize", raw, metadata, TOO_LARGE, tally)
        case Kind.METHOD:
            name = rng.choice((VERIFY + "s", "/uihlm.v2.VerificationService/Verify", "/", "/a/b", f"/x/{rng.random()}"))
            await _unary(channel, name, "unknown method", rng.randbytes(20), _UNKNOWN, metadata, tally)
        case Kind.HEALTH:
            good = rng.random() < 0.5
            request = health_pb2.HealthCheckRequest(service="" if good else f"s{rng.random()}")
            # Without the token: health is open to all.
            codes = _OK if good else _NOT_FOUND
            await _unary(channel, _CHECK, "health", request.SerializeToString(), codes, (), tally)
        case Kind.SILENT:
            call = channel.stream_stream(VERIFY, None, None)(metadata=metadata)
            await asyncio.sleep(rng.choice((0.0, 0.001, 0.01)))
            call.cancel()
            tally.note("silent", "CANCELLED", 0)
        case Kind.SOCKET:
            await _socket(port, rng, tally)


def _score(rng: random.Random) -> tuple[str, bytes, Codes]:
    request = pb.ScoreRequest(
        tokenizer_fingerprint=TableEngine.fingerprint, context_ids=ids(rng, 10, least=1), target_ids=ids(rng, 20)
    )
    match rng.randrange(6):
        case 0:
            request.tokenizer_fingerprint = rng.randbytes(32)
            return "score: fingerprint", request.SerializeToString(), MISMATCH
        case 1:
            request.ClearField("context_ids")
            return "score: no context", request.SerializeToString(), INVALID
        case 2:
            request.target_ids.append(VOCABULARY + rng.getrandbits(20))
            return "score: id", request.SerializeToString(), INVALID
        case 3:
            request.target_ids.extend([1] * MAX_CONTEXT)
            return "score: too long", request.SerializeToString(), INVALID
        case 4:
            raw = request.SerializeToString()
            return "score: mutated", mutated(rng, raw, raw), EITHER | _OK
    return "score", request.SerializeToString(), _OK


async def _unary(
    channel: grpc.aio.Channel, method: str, kind: str, raw: bytes, codes: Codes, metadata: Metadata, tally: Tally
) -> None:
    call = channel.unary_unary(method, None, None)(raw, metadata=metadata)
    code, details = await call.code(), await call.details()
    if code not in codes:
        raise WrongAnswerError(f"{kind}: {code.name}: {details!r}")
    tally.note(kind, code.name)


async def _one(
    channel: grpc.aio.Channel, kind: str, raw: bytes, metadata: Metadata, codes: Codes, tally: Tally
) -> None:
    """Send one message on a stream of its own, which must be refused."""
    call = channel.stream_stream(VERIFY, None, None)(metadata=metadata)
    written = False
    try:
        await call.write(raw)
        written = True
        answer = await call.read()
    except grpc.aio.AioRpcError as error:
        # Refused while it was being written, a call reports the write that failed and not the refusal (grpc#36066).
        if error.code() not in codes and (written or error.code() is not grpc.StatusCode.INTERNAL):
            raise WrongAnswerError(f"{kind}: {error.code().name}: {error.details()!r}") from None
        tally.note(kind, error.code().name)
        return
    raise WrongAnswerError(f"{kind}: was answered by {answer!r}")


async def _stranger(channel: grpc.aio.Channel, rng: random.Random, tally: Tally) -> None:
    wrong = "".join(rng.choices("abcXYZ0189-._~+/", k=rng.randint(1, 200)))
    metadata: Metadata = rng.choice(
        (
            (),
            (("authorization", f"Bearer {wrong}"),),
            (("authorization", wrong),),
            (("authorization", ""),),
            (("authorization", f"Basic {wrong}"),),
            (("authorization", f"Bearer {wrong}"), ("authorization", f"Bearer {wrong}")),
        )
    )
    if rng.random() < 0.3:
        await _unary(channel, _SCORE, "stranger: score", _score(rng)[1], _STRANGE, metadata, tally)
    else:
        raw = opening(rng).SerializeToString() if rng.random() < 0.5 else rng.randbytes(rng.randint(1, 200))
        await _one(channel, "stranger", raw, metadata, _STRANGE, tally)


async def _socket(port: int, rng: random.Random, tally: Tally) -> None:
    """Say to the bare port what is no gRPC, and hang up."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(_PREFACE[: rng.choice((0, 5, len(_PREFACE)))] + rng.randbytes(rng.randint(0, 400)))
        await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    tally.note("socket", "closed", 0)
