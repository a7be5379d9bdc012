"""A run on fake weights: the three prompts that most tests take, and a working directory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluating import prompts_file
from fake_pair import Weights, installed


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    return installed(monkeypatch, tmp_path)


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    return prompts_file(tmp_path)
