"""The pair through our own stream: `llm`, and `hlm` with one draft a round trip or blocks of them, over loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.clocks import CLOCKS
from benchmarks.peers.peer import TEMPERATURE
from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.local import local_basestation
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.drafter import Drafter
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.settings import profile
from uihlm_wireless.timing import TimingProfile


@dataclass(frozen=True, slots=True)
class Stream:
    """An open connection to a base station in this process."""

    connection: Connection
    clock: EnforcedClock
    ledger: Ledger


@contextlib.contextmanager
def opened(engine: Engine) -> Iterator[Stream]:
    """Serve an engine and connect to it, over no link at all: what takes time takes it."""
    clock, ledger = EnforcedClock(), Ledger()
    link = LinkInterceptor(Link(profile("none"), clock), ledger)
    with (
        local_basestation(engine) as address,
        Connection(str(address), engine.vocabulary_size, [link]) as connection,
    ):
        yield Stream(connection, clock, ledger)


@dataclass(slots=True)
class Judged:
    """Drafts that were judged, rounds, and what came after the first round of each answer, so without the prefill.

    Attributes:
        later_tokens: tokens of those rounds.
        later_s: seconds of them, by clock.
    """

    accepted: int = 0
    rejected: int = 0
    rounds: int = 0
    tokens: int = 0
    forward_s: float = 0.0
    draft_s: float = 0.0
    later_tokens: int = 0
    later_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLOCKS, 0.0))

    def add(self, records: Sequence[TokenRecord]) -> None:
        """Count an answer."""
        self.accepted += sum(record.origin is Origin.ACCEPTED for record in records)
        self.rejected += sum(record.origin is Origin.RESAMPLED for record in records)
        self.rounds += len({record.round for record in records if record.round is not None})
        self.tokens += len(records)
        self.forward_s += sum(record.forward_s for record in records)
        self.draft_s += sum(record.draft_s for record in records)

    @property
    def acceptance(self) -> float:
        """α: the share of judged drafts that stood."""
        return self.accepted / (self.accepted + self.rejected)


@dataclass(slots=True)
class Ours:
    """One policy through the stream (`Peer`)."""

    stream: Stream
    drafter: Drafter
    name: str = "hlm"
    codec: str = "coupled"
    length: int = 1
    judged: Judged = field(default_factory=Judged)

    def write(self, prompt: Sequence[int], tokens: int, seed: int) -> int:
        """Write an answer; see `Peer`."""
        sampling = Sampling(TEMPERATURE)
        uplink = codec(self.codec, self.drafter.vocabulary_size)
        contract = Contract(self.drafter.fingerprint, sampling, uplink)
        connection, stream = self.stream.connection, self.stream
        decoder = Decoder(
            self.drafter,
            uplink,
            policy(self.name, PolicySettings()),
            DecodeSettings(sampling, tokens, draft_length=self.length, run_on=self.length == 1),
            stream.clock,
            stream.ledger,
            TimingProfile(),
            lambda: connection.session(contract),
        )
        conversation = Conversation(session_key(seed, 0))
        conversation.extend(list(prompt))
        answer = decoder.answer(conversation)
        records = [next(answer)]
        began_s = {clock: now() for clock, now in CLOCKS.items()}
        records += answer
        for clock, now in CLOCKS.items():
            self.judged.later_s[clock] += now() - began_s[clock]
        self.judged.later_tokens += sum(record.round != records[0].round for record in records)
        conversation.end_session()
        self.judged.add(records)
        return len(records)
