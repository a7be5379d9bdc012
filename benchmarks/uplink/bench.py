"""The bundled pair, loaded and timed once, and one way of asking run over real prompts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from benchmarks.uplink.memory import RememberedDrafter, RememberedEngine
from benchmarks.uplink.tape import Tape, TapedClock, TapedLink
from uihlm_basestation.engines.engine import Engine, Work
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_basestation.local import local_basestation
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.drafter import Drafter, TreeDrafter
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.tokens import TokenRecord
from uihlm_evaluation.prompts.datasets import load
from uihlm_models.chat_format import ChatFormat
from uihlm_models.gguf_types import rewritten
from uihlm_models.presets import Role
from uihlm_models.sources import resolve
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

SAMPLING = Sampling(0.6)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of asking."""

    name: str
    codec: str = "coupled"
    draft_length: int = 1
    in_flight: int = 1
    tree: int = 0
    policy: str = "hlm"
    run_on: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """What a variant did.

    Attributes:
        records: of each prompt, one a token.
        elapsed_s: of each prompt, on the clock of the run.
        airtime_s: of each prompt.
        tape: to play it on another link; None of a loop that does not wait.
    """

    records: list[list[TokenRecord]]
    elapsed_s: list[float]
    airtime_s: list[float]
    tape: Tape | None

    def on(self, settings: LinkSettings, timing: TimingProfile) -> tuple[list[float], list[float]]:
        """Return the seconds and the airtime of each prompt on another link."""
        assert self.tape is not None, "what does not wait must be run on each link"
        return self.tape.play(settings, timing)


class Bench:
    """The pair with its times. Times are the lower quartile of many: what the machine does when nothing else runs."""

    def __init__(
        self,
        data: str,
        prompts: int,
        tokens: int,
        threads: int,
        weights: tuple[str, str],
        timing: TimingProfile | None,
    ) -> None:
        self.tokens = tokens
        source, (drafter_weights, llm_weights) = resolve("bundled", Role.DRAFTER), weights
        if drafter_weights != "auto":
            source = replace(source, path=rewritten(source.path, drafter_weights))
        self.drafters = Drafters(source, DrafterSettings(threads=threads))
        settings = EngineSettings(threads=threads, weight_type=llm_weights)
        self.engine = load_engine(resolve("bundled", Role.TARGET), settings)
        self.drafter = self.drafters.for_policy(policy("hlm", PolicySettings()))
        self._chains = RememberedDrafter(self.drafter)
        first_turn = ChatFormat(self.drafters.tokenizer).first_turn
        self.examples = load(data).examples[:prompts]
        self.prompts = [first_turn(example.user_turn) for example in self.examples]
        self.timing = timing or self._measured()

    def text(self, records: list[TokenRecord]) -> str:
        """Return what an answer says."""
        tokenizer = self.drafters.tokenizer
        ids = [record.token for record in records if record.token not in tokenizer.stop_ids]
        return b"".join(tokenizer.piece(token) for token in ids).decode("utf-8", "replace")

    def _measured(self) -> TimingProfile:
        drafter, ids = self.drafter, self.prompts[0]
        assert isinstance(drafter, TreeDrafter)
        uplink, n = codec("coupled", drafter.vocabulary_size), len(ids)
        record = drafter.forward(0, ids)

        def draft(count: int) -> None:
            for _ in range(count):
                uplink.draft(SAMPLING.distribution(record.logits), bytes(16), n)

        def step() -> None:
            draft(1)
            drafter.forward(n, [7])

        def grow(nodes: int) -> Callable[[], None]:
            def batch() -> None:
                drafter.settle([])
                drafter.grow([7 + node for node in range(nodes)], [-1] * nodes)
                draft(nodes)

            return batch

        def judge(positions: int) -> Callable[[], None]:
            return lambda: void(self.engine.forward([Work(1, n, [7] * positions, positions)]))

        self.engine.forward([Work(1, 0, ids, 1)])
        draft_s = _quartile_s(step)
        batch_s = {nodes: _quartile_s(grow(nodes)) for nodes in (1, 2, 4, 8)}
        forward_s = {positions: _quartile_s(judge(positions)) for positions in (1, 2, 3, 5, 9, 17, 33)}
        self.engine.close_session(1)
        return TimingProfile(draft_s, forward_s[1], _slope_s(forward_s), _slope_s(batch_s))

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the LLM, once as it is and once with a memory of its rows."""
        remembered = cast(Engine, RememberedEngine(self.engine))
        with local_basestation(self.engine) as trees, local_basestation(remembered) as chains:
            self._addresses = {True: str(trees), False: str(chains)}
            yield

    def run(self, variant: Variant, settings: LinkSettings | None = None) -> Ran:
        """Write every prompt in one way, on a link or, of a loop that waits, on none."""
        drafter = cast(Drafter, self.drafter if variant.tree else self._chains)
        address = self._addresses[bool(variant.tree)]
        rule = policy(variant.policy, PolicySettings())
        uplink = codec(variant.codec, self.drafter.vocabulary_size)
        waits = settings is None
        tape, ledger = Tape(), Ledger()
        clock = TapedClock(tape) if waits else SimulatedClock()
        link = TapedLink(settings or profile("none"), clock, self.timing, tape)
        decode = DecodeSettings(
            SAMPLING,
            self.tokens,
            draft_length=variant.draft_length,
            in_flight=variant.in_flight,
            tree=variant.tree,
            run_on=variant.run_on,
        )
        records: list[list[TokenRecord]] = []
        elapsed_s, airtime_s = [], []
        with Connection(address, self.drafter.vocabulary_size, [LinkInterceptor(link, ledger)]) as connection:
            contract = Contract(self.drafter.fingerprint, SAMPLING, uplink)
            decoder = Decoder(
                drafter, uplink, rule, decode, clock, ledger, self.timing, lambda: connection.session(contract)
            )
            for index, prompt in enumerate(self.prompts):
                before_s = clock.now()
                conversation = Conversation(session_key(0, index))
                conversation.extend(list(prompt))
                records.append(list(decoder.answer(conversation)))
                conversation.end_session()
                elapsed_s.append(clock.now() - before_s)
                airtime_s.append(sum(record.airtime_s for record in records[-1]))
                tape.ends.append(len(tape.events))
        if waits:
            # The tape must say what the clock said, or it says nothing of other links either.
            assert np.allclose(tape.play(profile("none"), self.timing)[0], elapsed_s, rtol=0.0, atol=1e-6)
        return Ran(records, elapsed_s, airtime_s, tape if waits else None)


def void(value: object) -> None:
    """Drop a value."""


def _quartile_s(run: Callable[[], None], repetitions: int = 24) -> float:
    took_s = []
    for _ in range(repetitions):
        started_s = time.perf_counter()
        run()
        took_s.append(time.perf_counter() - started_s)
    return float(np.percentile(took_s, 25))


def _slope_s(seconds: dict[int, float]) -> float:
    """Return the seconds of each further position: the least-squares slope through the first point."""
    first = min(seconds)
    further = np.array([count - first for count in seconds if count > first], dtype=np.float64)
    extra = np.array([seconds[count] - seconds[first] for count in seconds if count > first])
    return max(0.0, float((further * extra).sum() / (further**2).sum()))
