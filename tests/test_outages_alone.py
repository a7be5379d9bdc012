"""A base station that stays away under `local`: the device goes on alone, marks its tokens, and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fakes import FakeEngine, serving
from outage_ways import KNOBS, LOCAL, TREE_IN_FLIGHT, WAYS, V, Way, Y, bench, start
from proxy import Proxy
from stations import GatedEngine, standing
from uihlm_device.outages.outage import OnOutage, Outage
from uihlm_device.tokens import Origin
from uihlm_proto.addresses import Address
from uihlm_wireless.clock import EnforcedClock


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(FakeEngine(Y, V), max_sessions=64) as address:
        yield address


ASKED = {Origin.ACCEPTED, Origin.RESAMPLED, Origin.BONUS}
LOCAL_WAYS = {name: way for name, way in WAYS.items() if way.policy != "llm"}  # which has no drafter
LOCAL_WAYS["tree in flight"] = TREE_IN_FLIGHT


@pytest.mark.parametrize("way", LOCAL_WAYS.values(), ids=LOCAL_WAYS)
def test_device_goes_on_alone_and_comes_back(way: Way) -> None:
    engine = FakeEngine(Y, V)
    with (
        serving(engine) as address,
        Proxy(address) as proxy,
        bench(proxy.address, way.codec, stops=()) as device,
    ):
        decoder = device.decoder(way.policy, 110, KNOBS, outage=LOCAL, **dict(way.decode))
        conversation = start()
        answer = decoder.answer(conversation)
        records = [next(answer) for _ in range(20)]
        proxy.away()
        alone, back = 0, False
        for record in answer:
            records.append(record)
            alone += record.origin is Origin.OUTAGE
            if alone == 5:
                proxy.back()
            back = back or (alone >= 5 and record.origin in ASKED)
            if alone >= 5 and not back:
                time.sleep(0.05)  # a model takes its time, and a busy machine more of it
        held = engine.sessions[max(engine.sessions)]
        # The two ends agree again: all but what nobody has asked about yet.
        assert held == conversation.ids[: len(held)] and len(held) > 33
        conversation.end_session()
    origins = [record.origin for record in records]
    assert len(records) == 110 and [r.position for r in records] == list(range(3, 113))
    first, last = origins.index(Origin.OUTAGE), len(origins) - 1 - origins[::-1].index(Origin.OUTAGE)
    assert ASKED & set(origins[:first]) and ASKED & set(origins[last:]), "it never came back"
    assert set(origins[first : last + 1]) <= {Origin.OUTAGE, Origin.LOCAL}
    assert not any(record.uploaded for record in records if record.origin is Origin.OUTAGE)
    assert all(record.x_d is not None for record in records if record.origin is Origin.OUTAGE)
    assert conversation.lost_links == 1


def test_what_is_written_alone_is_what_the_drafter_writes(address: Address) -> None:
    with Proxy(address) as proxy, bench(proxy.address, stops=()) as device:
        conversation = start()
        answer = device.decoder("hlm", 24, outage=LOCAL).answer(conversation)
        before = [next(answer) for _ in range(4)]
        proxy.away()
        alone = list(answer)
        conversation.end_session()
    with bench(address, stops=()) as device:
        other = start()
        other.ids += [record.token for record in before]
        local = list(device.decoder("slm", 20).answer(other))
    assert [(r.token, r.x_d) for r in alone] == [(r.token, r.x_d) for r in local]
    assert {record.origin for record in alone} == {Origin.OUTAGE}


def test_skipped_tokens_stay_the_devices_own_in_an_outage(address: Address) -> None:
    """Only what would have been asked about is marked."""
    with Proxy(address) as proxy, bench(proxy.address, stops=()) as device:
        answer = device.decoder("u", 48, KNOBS, outage=LOCAL).answer(start(4))
        before = [next(answer) for _ in range(6)]
        proxy.away()
        rest = list(answer)
    assert any(record.origin in (Origin.ACCEPTED, Origin.RESAMPLED) for record in before)
    for record in rest:
        assert record.origin is (Origin.OUTAGE if record.u > KNOBS.theta_u else Origin.LOCAL)


def test_slow_base_station_is_gone_on_without_and_found_again() -> None:
    engine = GatedEngine(Y, V)
    with standing(engine) as station, bench(station.address, stops=(), clock=EnforcedClock()) as device:
        conversation = start()
        answer = device.decoder("hlm", 400, outage=LOCAL).answer(conversation)
        assert next(answer).origin is not Origin.OUTAGE
        engine.gate.clear()
        assert [next(answer).origin for _ in range(3)] == [Origin.OUTAGE] * 3
        engine.gate.set()
        origins = []
        for record in answer:
            origins.append(record.origin)
            time.sleep(0.01)
            if record.origin is not Origin.OUTAGE:
                break
        answer.close()
    assert origins[-1] in (Origin.ACCEPTED, Origin.RESAMPLED)
    assert conversation.lost_links == 1


def test_next_answer_of_a_device_alone_asks_again(address: Address) -> None:
    with Proxy(address) as proxy, bench(proxy.address, stops=()) as device:
        conversation = start()
        local = device.decoder("hlm", 12, outage=LOCAL)
        wait = device.decoder("llm", 12, outage=Outage(OnOutage.LOCAL, 10.0))
        list(local.answer(conversation))
        proxy.away()
        conversation.extend([9])
        assert {record.origin for record in local.answer(conversation)} == {Origin.OUTAGE}
        proxy.back()
        conversation.extend([9])
        # `llm` has no drafter: it waits until the base station is there.
        assert {record.origin for record in wait.answer(conversation)} == {Origin.LLM}
        conversation.end_session()
