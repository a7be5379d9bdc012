"""What stands where a pair's weights would, for commands under test: everything above the weights is the real thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fakes import FakeDrafter, FakeEngine, Logits, contextual, mixed
from uihlm_cli import assembly
from uihlm_device.rules.policies import Needs, Policy
from uihlm_models.presets import Role
from uihlm_models.sources import Kind, ModelSource

V = 128
STOP = 3


class AsciiTokenizer:
    """Every character is a token; 3 ends a turn."""

    vocabulary_size = V
    stop_ids = frozenset({STOP})
    bos_text = eos_text = ""
    chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}"

    def encode(self, text: str) -> list[int]:
        return list(text.encode("ascii"))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i != STOP).decode("ascii")

    def piece(self, token: int) -> bytes:
        return b"" if token == STOP else bytes([token])

    def pieces(self) -> list[str]:
        return [f"<{i}>" for i in range(V)]


def chatty(salt: int) -> Logits:
    """A model that ends an answer now and then."""
    logits = contextual(V, salt, window=12)

    def with_stop(ids: Sequence[int]) -> np.ndarray:
        z = logits(ids)
        z[STOP] += 3.0
        return z

    return with_stop


def endless(salt: int) -> Logits:
    """A model that never stops."""
    logits = contextual(V, salt, window=12)

    def speaks(ids: Sequence[int]) -> np.ndarray:
        z = logits(ids)
        z[STOP] = -50.0
        return z

    return speaks


class Weights:
    """What stands where the two models' weights would: everything above them is the real thing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before_draft: Callable[[Weights], None] = lambda weights: None
        self.drafts = 0
        self.engine_context = self.drafter_context = self.engine_breaks_at = 4096
        self.engines: list[FakeEngine] = []
        self._drafters: dict[bool, FakeDrafter] = {}
        # The logits of a model, by its salt.
        self.speaks: Callable[[int], Logits] = chatty

    def resolve(self, model: str, role: Role) -> ModelSource:
        path = self.folder / f"{role.value}.gguf"
        path.write_bytes(role.value.encode())
        return ModelSource(Kind.GGUF, path, f"{model} {role.value}")

    def drafters(self, source: ModelSource, settings: object) -> Weights:
        return self

    @property
    def tokenizer(self) -> AsciiTokenizer:
        return AsciiTokenizer()

    def for_policy(self, rule: Policy) -> FakeDrafter:
        """One drafter a kind, as the real one."""
        kind = Needs.IMPORTANCE in rule.needs
        if kind not in self._drafters:
            self._drafters[kind] = self._drafter()
        return self._drafters[kind]

    def another(self, rule: Policy, threads: int) -> FakeDrafter:
        """One more, as the real one."""
        return self._drafter()

    def _drafter(self) -> FakeDrafter:
        return self.counted(self.speaks(1))

    def counted(self, logits: Logits) -> FakeDrafter:
        """A drafter whose forwards are counted here."""
        weights = self

        class Drafter(FakeDrafter):
            max_context = weights.drafter_context

            def forward(self, *arguments, **named):
                weights.drafts += 1
                weights.before_draft(weights)
                return super().forward(*arguments, **named)

        return Drafter(logits, V, [STOP])

    def engine(self, *unused: object) -> FakeEngine:
        engine = FakeEngine(mixed(self.speaks(1), self.speaks(2), 0.4), V, [STOP])
        engine.max_context = self.engine_context
        engine.breaks_at = self.engine_breaks_at
        self.engines.append(engine)
        return engine


def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    """Put fake weights in place of all others, and make a working directory of the test's own."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "here").mkdir()
    weights = Weights(tmp_path / "weights")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(assembly, "resolve", weights.resolve)
    monkeypatch.setattr(assembly, "Drafters", weights.drafters)
    monkeypatch.setattr("uihlm_basestation.engines.loading.load_engine", weights.engine)
    return weights
