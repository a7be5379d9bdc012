"""Streams to a base station whose forwards a test lets through one by one."""

from __future__ import annotations

from collections.abc import Sequence

from fakes import contextual, vocabulary
from stations import GatedEngine, Station, one_hot_payload
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.remote_session import RemoteSession
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

V = 12
KEY = session_key(0, 0)
LOGITS = contextual(V, salt=1)
CONTRACT = Contract(vocabulary(V), Sampling(), codec("dense32", V))
ONE_DRAFT = (one_hot_payload(0, V),)


def engine_of(station: Station) -> GatedEngine:
    return station.server._engine


def opened(connection: Connection, contract: Contract = CONTRACT, prefix: Sequence[int] = (1, 2, 3)) -> RemoteSession:
    session = connection.session(contract)
    session.open(prefix, KEY)
    session.ready()
    return session
