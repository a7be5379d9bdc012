"""A campaign: a base station, a neighbour, many streams at once, until so many messages were answered or refused."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from benchmarks.fuzz.cases import Case
from benchmarks.fuzz.engine import TableEngine
from benchmarks.fuzz.growth import Holdings, grown
from benchmarks.fuzz.neighbour import Neighbour
from benchmarks.fuzz.others import play
from benchmarks.fuzz.play import Tally, WrongAnswerError
from uihlm_basestation.server import BaseStation
from uihlm_basestation.trust.settings import Trust
from uihlm_device.stream.access import Access
from uihlm_proto.addresses import Address
from uihlm_proto.bearer import Token
from uihlm_proto.token_set import TokenSet

# What grpc.aio logs, with a stack, where a device hangs up at the moment its answer is written, before it has heard of that.
_HUNG_UP = "ExecuteBatchError raised in core by servicer method"

# A case takes milliseconds; whatever is not over by then hangs, unless the machine is so busy that it gets no turn.
HANG_S = 60.0
# Pools and caches are full by then, so that what comes on top is growth.
_WARM = 0.1
_MOST_FAILURES = 10
_SETTLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one campaign.

    Attributes:
        messages: how many.
        seed: of every case.
        first: number of the first case.
        stride: between the numbers of two cases; others play those between.
        last: number of the last case; None goes on until there were enough messages.
        at_once: cases played side by side.
        every_s: between two reports.
        hang_s: a case that takes longer hangs.
    """

    messages: int
    seed: int
    first: int = 0
    stride: int = 1
    last: int | None = None
    at_once: int = 8
    every_s: float = 10.0
    hang_s: float = HANG_S


@dataclass(slots=True)
class Outcome:
    """Of one campaign.

    Attributes:
        tally: messages, cases, statuses.
        failures: sentences, each with how to play it again.
        seconds: that it took.
        neighbour_answers: whole answers of the neighbour meanwhile.
        before: what the process held once it was warm.
        after: what it held at the end.
        next_case: where another campaign may go on.
    """

    tally: Tally = field(default_factory=Tally)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    neighbour_answers: int = 0
    before: Holdings | None = None
    after: Holdings | None = None
    next_case: int = 0


class _Complaints(logging.Handler):
    """Whatever the base station, gRPC or asyncio log as an error, is one."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(logging.ERROR)
        self._outcome = outcome

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(_HUNG_UP):
            self._outcome.tally.statuses["hung up on in mid-answer", "logged by gRPC"] += 1
        elif len(self._outcome.failures) < _MOST_FAILURES:
            _note(self._outcome, f"logged by {record.name}: {self.format(record)}")


async def campaign(settings: Settings, tell: Callable[[Outcome, float], None], engine: TableEngine) -> Outcome:
    """Run one; `tell` is called now and then with what there is and the seconds so far."""
    outcome = Outcome(next_case=settings.first)
    token = Token(secrets.token_urlsafe())
    station = BaseStation(engine, max_sessions=256, trust=Trust(tokens=TokenSet([token])))
    complaints = _Complaints(outcome)
    logging.getLogger().addHandler(complaints)
    # On stderr it would be a way to fill a log; as an error it shows as a status that may not be.
    warnings.simplefilter("error", RuntimeWarning)
    try:
        address = await station.start()
        neighbour = await asyncio.to_thread(Neighbour, str(address), Access(token=token))
        neighbour.start()
        started_s = time.perf_counter()
        await _cases(
            settings, address, token, outcome, lambda: tell(outcome, time.perf_counter() - started_s), neighbour
        )
        outcome.seconds = time.perf_counter() - started_s
        await asyncio.to_thread(neighbour.stop)
        outcome.neighbour_answers = neighbour.answers
        if neighbour.error is not None:
            outcome.failures.append(neighbour.error)
        await _settle(station, engine, outcome)
        outcome.after = Holdings.now()
        if outcome.before is not None:
            outcome.failures.extend(grown(outcome.before, outcome.after))
    finally:
        logging.getLogger().removeHandler(complaints)
        await station.stop(0.0)
    return outcome


async def _cases(
    settings: Settings,
    address: Address,
    token: Token,
    outcome: Outcome,
    tell: Callable[[], None],
    neighbour: Neighbour,
) -> None:
    numbers = itertools.count(settings.first, settings.stride)
    told_s = time.perf_counter()

    def wanted() -> bool:
        if len(outcome.failures) >= _MOST_FAILURES or neighbour.error is not None:
            return False
        if settings.last is not None:
            return outcome.next_case <= settings.last
        return outcome.tally.messages < settings.messages

    async def worker(channel: grpc.aio.Channel) -> None:
        nonlocal told_s
        while wanted():
            number = next(numbers)
            outcome.next_case = number + settings.stride
            case = Case(settings.seed, number)
            try:
                async with asyncio.timeout(settings.hang_s):
                    await play(channel, address.port, (token.header,), case, outcome.tally)
            except TimeoutError:
                _fail(outcome, settings.seed, number, f"{case.kind.value}: hangs for {settings.hang_s:g} s")
            except WrongAnswerError as error:
                _fail(outcome, settings.seed, number, str(error))
            except Exception as error:
                _fail(outcome, settings.seed, number, f"{case.kind.value}: {type(error).__name__}: {error}")
            outcome.tally.cases += 1
            if outcome.before is None and outcome.tally.messages >= _WARM * settings.messages:
                outcome.before = Holdings.now()
            if time.perf_counter() - told_s >= settings.every_s:
                told_s = time.perf_counter()
                tell()

    # A channel each, so that neither side is one connection's order of events.
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(str(address), options=options) for _ in range(settings.at_once)]
    try:
        await asyncio.gather(*(worker(channel) for channel in channels))
    finally:
        for channel in channels:
            await channel.close()


async def _settle(station: BaseStation, engine: TableEngine, outcome: Outcome) -> None:
    """Wait until what was cancelled is gone; what then is left of sessions has leaked."""
    end_s = time.perf_counter() + _SETTLE_S
    while (station.sessions or engine.open) and time.perf_counter() < end_s:
        await asyncio.sleep(0.02)
    if station.sessions or engine.open:
        outcome.failures.append(f"{station.sessions} sessions and {len(engine.open)} caches are left, and no stream is")


def _fail(outcome: Outcome, seed: int, number: int, what: str) -> None:
    _note(outcome, f"case {number}: {what}\n  again: python -m benchmarks.fuzz --seed {seed} --case {number}")


def _note(outcome: Outcome, failure: str) -> None:
    outcome.failures.append(failure)
    # At once: a long run may be cut off before its summary.
    print(f"FAILED {failure}", file=sys.stderr, flush=True)
