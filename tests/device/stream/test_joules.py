"""Joules that a base station tells: they reach token and sum, and are known only where every forward's are."""

import pytest

from fake_counters import FakeCounters
from fakes import Bench, FakeDrafter, FakeEngine, contextual
from stations import standing
from uihlm_device.stream.session import Cost
from uihlm_device.turn import Turn

V = 16
KNOWN, UNKNOWN = Cost(1.0, 0.0, 1, 4, 2.5), Cost(1.0, 0.0, 1, 4)


def device(station):
    return Bench(station.address, FakeDrafter(contextual(V, 2), V))


@pytest.mark.parametrize(
    ("parts", "energy_j"),
    [
        ((KNOWN, KNOWN), 5.0),
        ((KNOWN, UNKNOWN), None),
        ((UNKNOWN, KNOWN), None),
        ((UNKNOWN, UNKNOWN), None),
        # Without a forward there is nothing to measure: a stale verdict, or the start of a sum.
        ((Cost(), KNOWN), 2.5),
        ((KNOWN, Cost(queue_s=1.0)), 2.5),
        ((Cost(), Cost()), None),
        ((Cost(), UNKNOWN), None),
    ],
)
def test_a_sum_is_known_where_every_forward_was_measured(parts, energy_j):
    one, other = parts
    assert one.plus(other).energy_j == energy_j


@pytest.mark.parametrize("policy", ["hlm", "llm"])
def test_what_the_counters_read_stands_on_the_tokens_rounds(policy):
    counters = FakeCounters(step_j=3.0)
    engine = FakeEngine(contextual(V, 3), V)
    with standing(engine, counters=counters) as station, device(station) as bench:
        records = bench.run(policy, max_tokens=6)
    turn = Turn(answers=1)
    for record in records:
        assert record.basestation_j == pytest.approx(3.0 * record.llm_forwards) if record.llm_forwards else True
        turn.add(record)
    assert turn.llm_forwards >= 5
    assert turn.measured_basestation_j == pytest.approx(3.0 * turn.llm_forwards)


def test_without_a_meter_there_the_tokens_say_that_nothing_was_measured():
    with standing(FakeEngine(contextual(V, 3), V)) as station, device(station) as bench:
        records = bench.run("hlm", max_tokens=6)
    assert {record.basestation_j for record in records} == {None}
    turn = Turn(answers=1)
    for record in records:
        turn.add(record)
    assert turn.measured_basestation_j is None
    assert Turn().measured_basestation_j == 0.0, "no forward, no joules"


def test_one_forward_without_joules_leaves_the_sum_unknown():
    turn = Turn(metered_forwards=3, llm_forwards=4, metered_j=9.0)
    assert turn.measured_basestation_j is None
    assert turn.plus(Turn(metered_forwards=1, llm_forwards=1, metered_j=1.0)).measured_basestation_j is None
