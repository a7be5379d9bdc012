"""Base stations that are killed in mid-round, and ones that are asked to stop: no answer is lost, none doubled, none hangs."""

from __future__ import annotations

import contextlib
import random
import signal
import time

import pytest

from fakes import FakeEngine, serving
from outage_ways import KNOBS, WAIT, WAYS, V, Way, Y, bench, said, start
from restarting import Killer, Nursery
from uihlm_device.tokens import Origin, TokenRecord

KILLS = 100


def answers(device, way, outage, indices) -> list[list[TokenRecord]]:
    written = []
    for index in indices:
        conversation = start(index)
        decoder = device.decoder(way.policy, 60, KNOBS, outage=outage, **dict(way.decode))
        written.append(list(decoder.answer(conversation)))
        decoder.settle_open(conversation)
        conversation.end_session()
    return written


@pytest.mark.slow
def test_hundred_kills_in_one_run_change_no_token() -> None:
    dice = random.Random(11)
    lives_s = [dice.uniform(0.1, 0.35) for _ in range(KILLS)]
    ways = list(WAYS.values())
    written: list[list[list[TokenRecord]]] = []
    with Nursery() as nursery, contextlib.ExitStack() as stack:
        devices = [stack.enter_context(bench(nursery.address, way.codec, stops=())) for way in ways]
        for device, way in zip(devices, ways, strict=True):
            # A base station that was never reached is not waited for.
            device.run(way.policy, max_tokens=1)
        began_s = time.monotonic()
        with Killer(nursery, KILLS, lives_s) as killer:
            while killer.killed < KILLS:
                number = len(written)
                device, way = devices[number % len(ways)], ways[number % len(ways)]
                written.append(answers(device, way, WAIT, [number]))
        assert nursery.started == KILLS + 1
        assert time.monotonic() - began_s < 120.0, "somebody hung"
    assert len(written) > 10
    with serving(FakeEngine(Y, V)) as address:
        for number, disturbed in enumerate(written):
            way = ways[number % len(ways)]
            with bench(address, way.codec, stops=()) as device:
                (whole,) = answers(device, way, None, [number])
            assert said(disturbed[0]) == said(whole), f"answer {number}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("way", [WAYS["hlm"], WAYS["llm"]], ids=["hlm", "llm"])
def test_base_station_that_ends_in_mid_answer_changes_no_token(way: Way, number: int) -> None:
    """Killed, or asked to stop: then the session is sent away, and goes on with the base station that comes next."""
    with Nursery() as nursery, bench(nursery.address, way.codec, stops=()) as device:
        conversation = start()
        answer = device.decoder(way.policy, 60, KNOBS, outage=WAIT).answer(conversation)
        records = [next(answer) for _ in range(5)]
        with Killer(nursery, 2, [0.0, 0.1], number):
            records += answer
        conversation.end_session()
    with serving(FakeEngine(Y, V)) as address, bench(address, way.codec, stops=()) as device:
        (whole,) = answers(device, way, None, [0])
    assert said(records) == said(whole)
    # An `llm` answer is one round, which a base station that stops finishes.
    assert conversation.lost_links or (way.policy == "llm" and number == signal.SIGTERM)
    assert Origin.OUTAGE not in {record.origin for record in records}
