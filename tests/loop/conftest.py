"""A device against a base station whose requests and answers are noted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes import Bench, FakeDrafter
from loop_reference import Station, V, X, noted


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    yield from noted(monkeypatch)


@pytest.fixture
def device(station: Station) -> Iterator[Bench]:
    with Bench(station.address, FakeDrafter(X, V)) as device:
        yield device
