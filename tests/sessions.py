"""A session of a base station without gRPC: opened as a device opens it, and asked."""

from __future__ import annotations

from fakes import FakeEngine
from stations import opening
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.session import Session
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb

PREFIX = [1, 2, 3]
KEY = session_key(0, 0)


async def opened(
    engine: FakeEngine, batcher: Batcher, number: int = 1, key: bytes = KEY, codec: str = "coupled"
) -> Session:
    """A session that stands, after the ids of PREFIX."""
    session = Session(number, engine, batcher)
    await session.open(opening(engine, prefix_ids=PREFIX, codec=codec, session_key=key).open)
    return session


async def ask(session: Session, request: pb.Upload) -> list[pb.Verdict]:
    """Every verdict on an upload."""
    return [verdict async for verdict in session.upload(request)]


async def alone(engine: FakeEngine, batcher: Batcher, count: int, key: bytes = KEY) -> list[int]:
    """The tokens that the LLM writes alone."""
    session = await opened(engine, batcher, 99, key)
    written = await ask(session, pb.Upload(first_position=len(PREFIX), generate=count))
    batcher.close_session(99)
    return [verdict.token_id for verdict in written]


def tree_upload(position: int, tokens, parents, **fields) -> pb.Upload:
    """Drafts of codec `coupled`, ids of one byte, with their parents; without parents a chain."""
    drafts = [pb.Draft(payload=bytes([token])) for token in tokens]
    return pb.Upload(first_position=position, drafts=drafts, parents=parents, **fields)
