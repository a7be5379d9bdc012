"""A base station whose forwards a test lets through one by one, and a connection to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gated_streams import LOGITS, V
from stations import GatedEngine, Station, standing
from uihlm_device.stream.client import Connection


@pytest.fixture
def station() -> Iterator[Station]:
    with standing(GatedEngine(LOGITS, V), max_sessions=2) as station:
        yield station


@pytest.fixture
def connection(station: Station) -> Iterator[Connection]:
    with Connection(str(station.address), V, timeout_s=10.0) as connection:
        yield connection
