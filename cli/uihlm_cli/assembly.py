"""From settings to running parts: drafters, base station, link and connection, each closed when the block ends."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.drafter import Drafter
from uihlm_device.drafters.loading import Drafters, DrafterSettings
from uihlm_device.drafters.shared_path import SharedPathDrafter
from uihlm_device.outages.outage import insist
from uihlm_device.rules.policies import Mode, Policy, PolicySettings, policy
from uihlm_device.rules.risk import Recalibrate, RiskController, RiskPolicy
from uihlm_device.stream.access import PLAIN, Access
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.session import Stream
from uihlm_evaluation.quality.agreement import Agreement, Likelihood
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig
from uihlm_evaluation.runs.rows import Row
from uihlm_models.chat_format import ChatFormat
from uihlm_models.presets import Role
from uihlm_models.sources import ModelSource, resolve
from uihlm_models.tokenizer import Tokenizer
from uihlm_proto.codecs import codec
from uihlm_proto.fingerprint import fingerprint
from uihlm_wireless.clock import Clock, EnforcedClock, SimulatedClock
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.timing import TimingProfile

# A dead link is noticed after one and a half of it; our base station allows twice as many pings.
_KEEPALIVE_S = 10.0


@dataclass(frozen=True, slots=True)
class Models:
    """The weights of a run; `llm` is None where a server was named."""

    slm: ModelSource
    llm: ModelSource | None


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is ready to answer.

    Attributes:
        models: the weights at both ends.
        tokenizer, chat_format: the drafter model's.
        clock, ledger: of its one link.
        decoder: makes a decoder for a policy by name, with the run's knobs or others.
        drafter_for: gives the drafter that can record what a policy needs.
        another_drafter: loads one more drafter, with a cache of its own, for a policy and so many threads.
        assemble: makes a decoder from a drafter, a policy, settings and, if it is not the run's, a timing profile; `opened`
            is then told of every stream.
        score: the LLM's log-probability of target ids after context ids, on the connection that decoders opened.
        agreement: makes what asks the LLM's opinion of answers, on the connection that decoders opened; None without one.
        reaches: whether a base station answers within so many seconds.
    """

    models: Models
    tokenizer: Tokenizer
    chat_format: ChatFormat
    clock: Clock
    ledger: Ledger
    decoder: Callable[[str, PolicySettings, DecodeSettings], Decoder]
    drafter_for: Callable[[Policy], Drafter]
    another_drafter: Callable[[Policy, int], Drafter]
    assemble: Callable[..., Decoder]
    score: Likelihood
    agreement: Callable[[], Agreement | None] = lambda: None
    reaches: Callable[[float], bool] = lambda timeout_s: True


def find_models(config: RunConfig) -> Models:
    """Return the weights that the settings name, fetched or written to the cache if need be."""
    slm = resolve(config.model, Role.DRAFTER)
    return Models(slm, None if config.llm is None else resolve(config.llm, Role.TARGET))


def vocabulary_size(models: Models) -> int:
    """Return V, read from the drafter's tokenizer alone."""
    return Drafters(models.slm, DrafterSettings()).tokenizer.vocabulary_size


@contextlib.contextmanager
def opened_device(
    config: RunConfig,
    server: str | None,
    timeout_s: float,
    shared_paths: bool = False,
    access: Access = PLAIN,
) -> Iterator[Device]:
    """Load the drafter, start a local base station unless `server` names one, connect, and yield the device.

    `access` is how a named base station is reached.

    With `shared_paths`, answers to one prompt run what they share once: for decoders whose timing is fixed.

    Raises:
        ModelError: if weights are missing or unusable.
        UihlmError: if the settings do not fit the models.
    """
    models = find_models(config)
    settings = DrafterSettings(config.backend, config.layer, config.decode.readout, threads=config.threads)
    drafters = Drafters(models.slm, settings)
    tokenizer = drafters.tokenizer
    vocabulary_size = tokenizer.vocabulary_size
    clock: Clock = SimulatedClock() if config.clock is ClockMode.SIMULATED else EnforcedClock()
    ledger = Ledger()
    interceptor = LinkInterceptor(Link(config.link, clock, config.timing), ledger)
    tokenizer_fingerprint = fingerprint(tokenizer.pieces())
    with contextlib.ExitStack() as stack:

        @functools.cache
        def connection() -> Connection:
            target = server or stack.enter_context(_local(models, config, shared_paths))
            keepalive_s = None if config.decode.outage is None else _KEEPALIVE_S
            return stack.enter_context(
                Connection(target, vocabulary_size, [interceptor], timeout_s, access, keepalive_s)
            )

        sharing: dict[int, Drafter] = {}

        def drafter_for(rule: Policy) -> Drafter:
            drafter = drafters.for_policy(rule)
            return sharing.setdefault(id(drafter), SharedPathDrafter(drafter)) if shared_paths else drafter

        def decoder(name: str, rules: PolicySettings, decode: DecodeSettings) -> Decoder:
            def at(theta_u: float) -> Policy:
                return policy(name, replace(rules, theta_u=theta_u))

            rule = at(rules.theta_u)
            if (
                decode.risk is not None
                and decode.recalibrate is Recalibrate.ONLINE
                and "theta_u" in Row.of(name, rules).knobs
            ):
                rule = RiskPolicy(RiskController(decode.risk, rules.theta_u, decode.max_tokens), at)
            return assemble(drafter_for(rule), rule, decode)

        def assemble(
            drafter: Drafter,
            rule: Policy,
            decode: DecodeSettings,
            timing: TimingProfile = config.timing,
            opened: Callable[[Stream], None] = lambda stream: None,
        ) -> Decoder:
            uplink = codec(config.codec, vocabulary_size)
            contract = Contract(tokenizer_fingerprint, decode.sampling, uplink, drafter.stop_ids)
            if rule.mode is not Mode.DEVICE_ALONE:
                # Loaded now, so that the first answer does not wait for it; a device that never asks needs none.
                connection()

            def connect() -> Stream:
                stream = connection().session(contract)
                opened(stream)
                return stream

            return Decoder(drafter, uplink, rule, decode, clock, ledger, timing, connect)

        def score(context_ids: Sequence[int], target_ids: Sequence[int]) -> list[float]:
            contract = Contract(tokenizer_fingerprint, config.decode.sampling, codec(config.codec, vocabulary_size))
            return connection().score(contract, context_ids, target_ids)

        def agreement() -> Agreement | None:
            # No LLM is loaded for its opinion alone.
            if not connection.cache_info().currsize:
                return None
            if config.decode.outage is None:
                return Agreement(score)
            # Answers may go on alone; the LLM's opinion of them has no stand-in, and is waited for.
            rule = config.decode.outage.under(Mode.LLM_ALONE)
            return Agreement(lambda context_ids, target_ids: insist(lambda: score(context_ids, target_ids), rule))

        chat_format = ChatFormat(tokenizer)
        yield Device(
            models,
            tokenizer,
            chat_format,
            clock,
            ledger,
            decoder,
            drafter_for,
            drafters.another,
            assemble,
            score,
            agreement,
            lambda timeout_s: connection().reaches(timeout_s),
        )


@contextlib.contextmanager
def _local(models: Models, config: RunConfig, shared_paths: bool) -> Iterator[str]:
    from uihlm_basestation.engines.engine import Engine
    from uihlm_basestation.engines.loading import EngineSettings, load_engine
    from uihlm_basestation.engines.shared_path import SharedPathEngine
    from uihlm_basestation.local import local_basestation

    assert models.llm is not None, "settings without a server name an LLM"
    settings = EngineSettings(backend=config.backend, threads=config.threads, weight_type=config.llm_dtype or "auto")
    engine: Engine = load_engine(models.llm, settings)
    if shared_paths:
        engine = SharedPathEngine(engine)
    with local_basestation(engine) as address:
        yield str(address)
