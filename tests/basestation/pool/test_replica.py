"""A replica without Ray: the servicer behind a border that has Ray's shape. What Ray itself does is in test_ray_pool.py."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from fakes import FakeEngine, contextual
from stations import opening, upload
from uihlm_basestation.pool.replica import CallEndedError, Replica
from uihlm_basestation.serving import Serving
from uihlm_proto.bearer import Token
from uihlm_proto.token_set import TokenSet
from uihlm_proto.v1 import verification_pb2 as pb

V = 12
SECRET = "a-secret-of-enough-letters"


class RayContext:
    """What Ray passes along with a call, as far as a replica asks for it."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = list(metadata)
        self._code: grpc.StatusCode | None = None
        self.details, self.trailing = "", []

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing: list[tuple[str, str]]) -> None:
        self.trailing = trailing

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata


class Served:
    """A replica on the loop of a test."""

    def __init__(self, max_sessions: int = 4, tokens: TokenSet | None = None) -> None:
        self.engine = FakeEngine(contextual(V, 1), V)
        self.replica = Replica(lambda: self.engine, max_sessions, Serving(), tokens)

    def verify(
        self, *requests: pb.VerifyRequest, context: RayContext | None = None
    ) -> AsyncIterator[pb.VerifyResponse]:
        async def sent() -> AsyncIterator[pb.VerifyRequest]:
            for request in requests:
                yield request

        return self.replica.Verify(sent(), grpc_context=context or RayContext())


def run(scenario: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_stream_is_answered_as_the_servicer_answers_it():
    async def scenario() -> None:
        served = Served()
        assert served.replica.description() == "fake"
        requests = opening(served.engine), upload(served.engine), upload(served.engine, drafts=[], generate=2, round=3)
        answers = [
            answer async for answer in served.verify(*requests[:1], upload(served.engine, drafts=[], generate=2))
        ]
        assert [answer.WhichOneof("message") for answer in answers] == ["ready", "verdict", "verdict"]
        assert answers[-1].verdict.last
        assert await gone(served)

    run(scenario)


async def gone(served: Served) -> bool:
    """Whether the engine soon holds no session: it is told by another thread."""
    for _ in range(200):
        if not served.engine.sessions:
            return True
        await asyncio.sleep(0.01)
    return False


def test_a_refusal_reaches_ray_as_status_sentence_and_hint():
    async def scenario() -> None:
        served = Served(max_sessions=1)
        first = served.verify(opening(served.engine), opening(served.engine))
        await anext(first)
        context = RayContext()
        with pytest.raises(CallEndedError):
            await anext(served.verify(opening(served.engine), context=context))
        assert context.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "1 sessions are taken" in context.details
        assert [float(value) >= 0 for _, value in context.trailing] == [True]
        await first.aclose()
        # At once, and not when a generator is collected.
        again = served.verify(opening(served.engine))
        assert (await anext(again)).HasField("ready"), "a stream that Ray drops frees its session"

    run(scenario)


def test_a_token_is_asked_for_in_the_replica_as_the_ingress_asks_for_none():
    async def scenario() -> None:
        served = Served(tokens=TokenSet([Token(SECRET)]))
        request = pb.ScoreRequest(tokenizer_fingerprint=served.engine.fingerprint, context_ids=[1], target_ids=[2])
        for header in ([], [("authorization", "Bearer another-secret-of-letters")]):
            context = RayContext(*header)
            with pytest.raises(CallEndedError):
                await anext(served.verify(opening(served.engine), context=context))
            assert context.code() is grpc.StatusCode.UNAUTHENTICATED
            context = RayContext(*header)
            with pytest.raises(CallEndedError):
                await served.replica.Score(request, grpc_context=context)
            assert context.code() is grpc.StatusCode.UNAUTHENTICATED and SECRET not in context.details
        assert served.engine.log == [], "nothing was run for them"
        known = RayContext(("authorization", f"Bearer {SECRET}"))
        assert (await anext(served.verify(opening(served.engine), context=known))).HasField("ready")
        assert len((await served.replica.Score(request, grpc_context=known)).log_probabilities) == 1

    run(scenario)


def test_a_bad_score_ends_with_its_status():
    async def scenario() -> None:
        served, context = Served(), RayContext()
        with pytest.raises(CallEndedError):
            await served.replica.Score(pb.ScoreRequest(), grpc_context=context)
        assert context.code() is grpc.StatusCode.FAILED_PRECONDITION

    run(scenario)
