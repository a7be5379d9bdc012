"""The pair through our own stream: `llm`, and `hlm` with one draft a round trip or blocks of them, over loopback."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Round:
    """A round of an answer.

    Attributes:
        ended_s: by clock, when the first of its tokens came: the others are only handed on.
        records: its tokens.
    """

    ended_s: Mapping[str, float]
    records: list[TokenRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judged:
    """Whole rounds after the first of an answer, or of several: no prefill, and no block that the answer's end has cut short.

    Of such rounds the bound on blocks speaks. An answer of 48 tokens in blocks of 2 has about 25, and a last one or two with
    fewer drafts and fewer tokens.

    Attributes:
        tokens: what they wrote.
        seconds: what they took, by clock.
        forward_s: of that, the LLM's.
        draft_s: of that, the drafter's.
    """

    accepted: int = 0
    rejected: int = 0
    rounds: int = 0
    tokens: int = 0
    forward_s: float = 0.0
    draft_s: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, rounds: Sequence[Round], limit: int, length: int) -> Judged:
        """Return those of an answer of at most `limit` tokens in blocks of `length` drafts."""
        whole = _whole(rounds, limit, length)
        later = whole[1:]
        if not later:
            return cls()
        records = [record for each in later for record in each.records]
        return cls(
            sum(record.origin is Origin.ACCEPTED for record in records),
            sum(record.origin is Origin.RESAMPLED for record in records),
            len(later),
            len(records),
            sum(record.forward_s for record in records),
            sum(record.draft_s for record in records),
            {clock: ended_s - whole[0].ended_s[clock] for clock, ended_s in whole[-1].ended_s.items()},
        )

    def plus(self, other: Judged) -> Judged:
        """Return both together."""
        return Judged(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            self.rounds + other.rounds,
            self.tokens + other.tokens,
            self.forward_s + other.forward_s,
            self.draft_s + other.draft_s,
            {clock: self.seconds.get(clock, 0.0) + other.seconds.get(clock, 0.0) for clock in CLOCKS},
        )

    @classmethod
    def all(cls, answers: Sequence[Judged]) -> Judged:
        """Return those of several answers together."""
        return functools.reduce(cls.plus, answers, cls())

    @property
    def acceptance(self) -> float:
        """α: the share of judged drafts that stood."""
        return self.accepted / (self.accepted + self.rejected)


@dataclass(slots=True)
class Ours:
    """One policy through the stream (`Peer`).

    Attributes:
        answers: what each one written had to say of its rounds.
    """

    stream: Stream
    drafter: Drafter
    name: str = "hlm"
    codec: str = "coupled"
    length: int = 1
    p_min: float = 0.0
    interval: int = 1
    answers: list[Judged] = field(default_factory=list)

    def write(self, prompt: Sequence[int], tokens: int, seed: int) -> int:
        """Write an answer; see `Peer`."""
        return len(self.tokens(prompt, tokens, seed))

    def tokens(self, prompt: Sequence[int], tokens: int, seed: int) -> list[int]:
        """Return an answer."""
        sampling = Sampling(TEMPERATURE)
        uplink = codec(self.codec, self.drafter.vocabulary_size)
        contract = Contract(self.drafter.fingerprint, sampling, uplink)
        connection, stream = self.stream.connection, self.stream
        decoder = Decoder(
            self.drafter,
            uplink,
            policy(self.name, PolicySettings()),
            DecodeSettings(
                sampling,
                tokens,
                draft_length=self.length,
                draft_p_min=self.p_min,
                run_on=self.length == 1,
                stream_interval=self.interval,
            ),
            stream.clock,
            stream.ledger,
            TimingProfile(),
            lambda: connection.session(contract),
        )
        conversation = Conversation(session_key(seed, 0))
        conversation.extend(list(prompt))
        rounds: list[Round] = []
        for record in decoder.answer(conversation):
            if not rounds or record.round != rounds[-1].records[0].round:
                rounds.append(Round({clock: now() for clock, now in CLOCKS.items()}))
            rounds[-1].records.append(record)
        conversation.end_session()
        self.answers.append(Judged.of(rounds, tokens, self.length))
        return [record.token for each in rounds for record in each.records]


def _whole(rounds: Sequence[Round], limit: int, length: int) -> Sequence[Round]:
    """Return the rounds at whose beginning there was room for all drafts, and for the bonus that several earn."""
    written = 0
    for count, each in enumerate(rounds):
        if written + length + (length > 1) > limit:
            return rounds[:count]
        written += len(each.records)
    return rounds
