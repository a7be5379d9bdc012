"""A chat on fake models, with or without somebody who types."""

from __future__ import annotations

import pytest

from chatting import Bench
from uihlm_cli import assembly


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(assembly, "opened_device", bench.opened)
    return bench


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody types."""
    monkeypatch.setattr("uihlm_cli.chat.command.stdin_is_terminal", lambda: True)
