"""`uihlm-device chat` through the real loop, client and server; only the two models are fakes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fakes import FakeDrafter, FakeEngine, serving
from uihlm_cli import assembly
from uihlm_cli.device import main
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig
from uihlm_models.chat_format import ChatFormat
from uihlm_models.sources import Kind, ModelSource
from uihlm_proto.codecs import codec
from uihlm_wireless.clock import EnforcedClock, SimulatedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.timing import TimingProfile

STOP = 3
V = 256
Answers = Callable[[str], str]


class ByteTokenizer:
    """Every byte is a token; byte 3 ends a turn."""

    vocabulary_size = V
    stop_ids = frozenset({STOP})
    bos_text = eos_text = ""
    chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}\x03{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return b"" if token == STOP else bytes([token])

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.piece(i) for i in ids).decode("utf-8", "replace")

    def pieces(self) -> list[str]:
        return [f"<{i}>" for i in range(V)]


def scripted(answers: Answers) -> Callable[[Sequence[int]], np.ndarray]:
    """A model that gives the answer of a conversation so far, byte by byte, whatever it has written itself."""

    def logits(ids: Sequence[int]) -> np.ndarray:
        head, _, written = bytes(ids).rpartition(b"[assistant]")
        rest = (answers(head.decode()).encode() + bytes([STOP]))[len(written) :]
        z = np.full(V, -50.0, np.float32)
        z[rest[0] if rest else STOP] = 50.0
        return z

    return logits


class Bench:
    """What `opened_device` opens instead of models."""

    def __init__(self) -> None:
        self.drafter_says: Answers = lambda head: "hello"
        self.llm_says: Answers | None = None
        self.before_forward: Callable[[Bench], None] = lambda bench: None
        self.unreachable = False
        self.drafter = FakeDrafter(lambda ids: np.zeros(V, np.float32), V)
        self.configs: list[RunConfig] = []
        self.keys: list[bytes] = []

    @contextlib.contextmanager
    def opened(
        self, config: RunConfig, server: str | None, timeout_s: float, **more: object
    ) -> Iterator[assembly.Device]:
        self.configs.append(config)
        bench = self

        class Drafter(FakeDrafter):
            def forward(self, *arguments, **named):
                bench.before_forward(bench)
                return super().forward(*arguments, **named)

        tokenizer = ByteTokenizer()
        self.drafter = Drafter(scripted(self.drafter_says), V, [STOP])
        engine = FakeEngine(scripted(self._llm), V, [STOP])
        clock = SimulatedClock() if config.clock is ClockMode.SIMULATED else EnforcedClock()
        ledger = Ledger()
        timing = TimingProfile(0.01, 0.02)
        link = LinkInterceptor(Link(config.link, clock, timing), ledger)
        uplink = codec(config.codec, V)
        models = assembly.Models(*(ModelSource(Kind.GGUF, Path(n), n) for n in ("fake drafter", "fake LLM")))
        with serving(engine) as address, Connection(server or str(address), V, [link], timeout_s) as connection:

            def decoder(name: str, rules: PolicySettings, decode: DecodeSettings) -> Decoder:
                contract = Contract(self.drafter.fingerprint, decode.sampling, uplink, self.drafter.stop_ids)

                def connect():
                    session = connection.session(contract)
                    opening = session.open
                    session.open = lambda ids, key: (self.keys.append(key), opening(ids, key))[1]
                    return session

                rule = policy(name, rules)
                return Decoder(self.drafter, uplink, rule, decode, clock, ledger, timing, connect)

            none = pytest.fail  # chat makes no decoder of its own
            yield assembly.Device(models, tokenizer, ChatFormat(tokenizer), clock, ledger, decoder, *[none] * 5)

    def _llm(self, head: str) -> str:
        return (self.llm_says or self.drafter_says)(head)

    @property
    def history(self) -> str:
        return bytes(self.drafter.ids).decode("utf-8", "replace")


# What a test does not name: a later flag of its own takes the place of one of these.
_PINNED = ("--clock", "simulated", "--policy", "ui", "--codec", "dense32")


def chat(*arguments: str, typed: str = "", **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(main, ["chat", *_PINNED, *arguments], input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
