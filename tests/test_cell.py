"""The cell's own arithmetic, and that its devices speak the protocol."""

import dataclasses
import math

import pytest

from benchmarks.cell.capacity import _costs, holds, next_try
from benchmarks.cell.devices import Air, Contract, Device, Pace, Tally, Window
from benchmarks.cell.run import Cell, _cell, jain, run, run_cell
from benchmarks.cell.station import Counts, StationSettings, station
from benchmarks.cell.traces import Step, Trace, alone, recorded, running_on, synthetic
from uihlm_proto.fingerprint import fingerprint

V = 64


def test_fairness_is_one_where_all_are_equal_and_a_share_where_one_has_everything():
    assert jain([3, 3, 3]) == 1.0
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)


def test_a_trace_costs_what_the_base_station_runs_for_it():
    """Each committed token is run once, and the drafts of a block beside the last verdict's token."""
    single = Trace([1], 0, 0, [Step((), [b"a"]), Step((5, 6), [b"b"])], tokens=4)
    assert _costs([single], False) == (2 / 4, 4 / 4, 16 / 4, 2 / 4)
    block = Trace([1], 0, 0, [Step((), [b"a", b"b", b"c"])], tokens=2)
    assert _costs([block], False) == (1 / 2, 4 / 2, 24 / 2, 3 / 2)


@pytest.mark.parametrize("holds", [0, 1, 2, 9, 13, 16, 40])
def test_the_search_ends_between_the_most_that_hold_and_the_fewest_that_do_not(holds):
    """A base station that holds so many, tried from above, from below and at once: a first failure is not the last word."""
    for first in (1, 4, 12, 14, 30):
        best, failed, devices, tries = 0, None, first, 0
        while devices is not None:
            tries += 1
            assert tries <= 20, "it goes round in circles"
            best, failed = (devices, failed) if devices <= holds else (best, devices)
            devices = next_try(best, failed)
        assert best <= holds < failed
        assert (holds == 0 and failed == 1) or failed - best < 2 or failed <= 1.12 * best


def test_an_answer_that_runs_on_asks_so_but_for_its_last_upload():
    trace = Trace([1], 0, 0, [Step((), [b"a"]), Step((), [b"b"]), Step((), [b"c"])], tokens=3)
    assert [step.runs_on for step in running_on([trace])[0].steps] == [True, True, False]


def test_recorded_answers_are_of_the_policies_that_are_compared():
    traces = recorded()
    assert {"hlm", "hlm, 4 drafts", "hlm, 8 drafts", "u", "ui"} <= traces.keys()
    per_token = {name: _costs(own, False)[0] for name, own in traces.items()}
    assert per_token["ui"] < per_token["u"] < per_token["hlm"] == 1.0
    assert {step.generate for step in alone(traces["hlm"])[0].steps} == {8}


def test_uploads_on_one_band_wait_for_each_other():
    import asyncio
    import time

    async def both():
        air, started_s = Air(1000.0), time.perf_counter()
        await asyncio.gather(air.send(100.0), air.send(100.0))
        return time.perf_counter() - started_s

    assert 0.19 < asyncio.run(both()) < 2.0


def test_a_stretch_of_time_counts_as_far_as_it_lies_between_start_and_end():
    window = Window(10.0, 20.0)
    assert [window.share_s(*stretch) for stretch in ((8, 9), (8, 12), (12, 13), (19, 25), (5, 30), (21, 22))] == [
        0,
        2,
        1,
        1,
        10,
        0,
    ]
    assert Window().share_s(1.0, 2.0) == 0.0, "nothing counts before every device stands"


def test_a_cell_holds_its_devices_by_rate_and_by_their_wait_for_a_session():
    numbers = {field.name: math.nan for field in dataclasses.fields(Cell)}

    def cell(opening_ms, *rates):
        return Cell(**numbers | {"opening_ms": opening_ms, "device_tokens_s": rates})

    assert holds(cell(100.0, 7.4, 7.9), 8.0)
    assert not holds(cell(100.0, 7.4, 7.7), 8.0), "0.944 of the rate"
    assert not holds(cell(1001.0, 8.0, 8.0), 8.0), "prompts starve"


def test_a_rate_is_of_the_time_with_a_session():
    tallies = [Tally(tokens=40, away_s=3.0, opening_s=[1.0, 2.0]), Tally(tokens=40), Tally(away_s=8.0, opening_s=[9.0])]
    cell = _cell(tallies, 8.0, Counts(0, 0, 0, 0.0, 0), Counts(1, 1, 1, 0.0, 0), ([], []), 0.0)
    assert cell.device_tokens_s == (8.0, 5.0, 0.0)
    assert cell.opening_ms == 4000.0


def test_no_two_of_many_devices_enter_an_answer_at_one_place():
    """Prompts that all end at once would come all at once."""
    contract = Contract(bytes(32), V, "coupled")

    async def phases():
        devices = [Device("localhost:1", contract, [], n) for n in range(64)]
        for device in devices:
            await device._channel.close()
        return sorted(device._phase for device in devices)

    import asyncio

    places = asyncio.run(phases())
    gaps = [after - before for before, after in zip(places, [*places[1:], 1.0], strict=True)]
    assert places[0] >= 0.0 and min(gaps) > 1 / 128 and max(gaps) < 1 / 32


def test_the_tokens_behind_the_last_upload_are_of_an_answer_too():
    for name, answers in recorded().items():
        for answer in answers:
            asked = sum(len(step.skipped) + len(step.payloads) for step in answer.steps)
            assert answer.unasked == 0 if "drafts" in name else asked + answer.unasked == answer.tokens
    assert sum(answer.unasked for answer in recorded()["ui"]) > 0


@pytest.mark.slow
def test_a_paced_device_writes_at_its_rate_whatever_its_prompts_take():
    """Short answers, so that a device opens session after session: what that takes is no part of its rate."""
    contract = Contract(fingerprint(f"<{i}>" for i in range(V)), V, "coupled")
    traces = [dataclasses.replace(trace, tokens=7, unasked=3) for trace in synthetic("coupled", V, 5, 4)]
    with station(StationSettings(vocabulary_size=V, max_sessions=8)) as base:
        cell = run(run_cell(base, contract, traces, 3, 2.0, Pace(0.0, 40.0)))
    assert cell.opening_ms > 0.0
    assert sum(cell.device_tokens_s) / 3 == pytest.approx(40.0, rel=0.1)
    assert holds(cell, 40.0)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["coupled", "dense32"])
def test_devices_are_answered(codec):
    contract = Contract(fingerprint(f"<{i}>" for i in range(V)), V, codec)
    with station(StationSettings(vocabulary_size=V, max_sessions=8)) as base:
        cell = run(run_cell(base, contract, synthetic(codec, V, 5, 20), 3, 0.5))
    assert cell.sessions == 3 and cell.rounds_s > 10 and cell.tokens_s >= cell.rounds_s
    assert cell.fairness > 0.5 and cell.p99_ms >= cell.p50_ms > 0.0
    assert 1.0 <= cell.parts <= 3.0 and min(cell.health_ms, cell.own_health_ms) > 0.0


@pytest.mark.slow
def test_tokens_of_the_llm_alone_count_as_they_come():
    """Eight are asked for at once: counted by the eight, what a window holds would be chance."""
    contract = Contract(fingerprint(f"<{i}>" for i in range(V)), V, "coupled")
    traces = alone([Trace([1, 2, 3], 0, index, [], tokens=64) for index in range(4)])
    with station(StationSettings(vocabulary_size=V, max_sessions=8)) as base:
        cell = run(run_cell(base, contract, traces, 2, 0.5))
    assert cell.tokens_s == cell.rounds_s > 10
