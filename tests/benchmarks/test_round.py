"""A verification round beside its floor, on the bundled pair and on a fake engine."""

import time

import pytest

from benchmarks.bare_trip import BareTrip
from benchmarks.round import Payloads, Task, one_round, rounds_run_on
from fakes import FakeEngine, contextual
from uihlm_device.stream.session import RunOn
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

V, KEY = 48, session_key(0, 0)


@pytest.mark.parametrize("name", ["coupled", "dense32"])
def test_a_bare_trip_makes_the_forwards_that_are_asked_for(name):
    engine, uplink = FakeEngine(contextual(V, 1), V), codec(name, V)
    payloads = Payloads(uplink, Sampling(), KEY)
    with BareTrip(engine, uplink, Sampling(), KEY) as trip:
        assert len(engine.log) == 1, "the prefill"
        for made in (2, 3):
            took_s, forward_s = trip.round(payloads.next())
            assert len(engine.log) == made and 0.0 < forward_s < took_s
        for made in (5, 6, 7):
            trip.round(payloads.next(), RunOn.NOW)
            # Nobody asks for the last of them.
            until_s = time.monotonic() + 10.0
            while len(engine.log) < made and time.monotonic() < until_s:
                time.sleep(0.001)
            assert len(engine.log) == made
        trip.round(payloads.next())
        assert len(engine.log) == 7, "the last one judged what had run on"
        overhead_ms, forward_ms = one_round(trip, payloads)
        assert overhead_ms > 0.0 < forward_ms
        assert len(rounds_run_on(trip, payloads, 4)) == 3
        assert len(engine.log) == 8 + 6


class _Ticking:
    """A trip whose forwards take 9 ms, and a clock that it moves: every other verdict is seen 4 ms late."""

    def __init__(self):
        self.now_s, self.seen = 0.0, 0

    def round(self, payload, run_on=RunOn.NO):
        self.seen += 1
        late_s = 4e-3 if self.seen % 2 else -4e-3
        self.now_s += 10e-3 + late_s
        return 9.5e-3 + late_s, 9e-3


def test_verdicts_seen_late_leave_the_mean_of_many_rounds_as_it_is(monkeypatch):
    trip = _Ticking()
    monkeypatch.setattr("benchmarks.round.time.perf_counter", lambda: trip.now_s)
    payloads = Payloads(codec("coupled", V), Sampling(), KEY)
    assert rounds_run_on(trip, payloads, 10) == pytest.approx((0.5, 1.0, 9.0))


@pytest.mark.parametrize("trip", ["ours", "bare"])
def test_either_trip_is_measured_on_the_bundled_llm(trip):
    waited, run_on = Task(trip, "coupled", seed=1, rounds=3, threads=1).run()
    assert len(waited) == 3 and len(run_on) == 1
    for overhead_ms, forward_ms in waited:
        assert overhead_ms > 0.0 and forward_ms > 1.0
    assert run_on[0][2] > 1.0
