"""A base station that is lost, cut off or restarted: under `wait` the text does not know."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fakes import FakeEngine, serving
from outage_ways import LOCAL, PROMPT, STOP, TREE_IN_FLIGHT, WAIT, WAYS, V, Way, Y, bench, said, start, write
from proxy import Fault, Proxy
from uihlm_device.outages.outage import OnOutage, Outage
from uihlm_device.tokens import Origin
from uihlm_proto.addresses import Address
from uihlm_proto.errors import MismatchError, UnavailableError
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.link import Link, Session
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(FakeEngine(Y, V, [STOP]), max_sessions=64) as address:
        yield address


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("fault", [Fault.RESET, Fault.TRUNCATE])
def test_text_under_wait_is_that_of_an_undisturbed_run(address: Address, fault: Fault, way: Way) -> None:
    with bench(address, way.codec) as device:
        whole, undisturbed = write(device, way, 0)
    with Proxy(address, fault, every=8) as proxy, bench(proxy.address, way.codec) as device:
        records, conversation = write(device, way, 0, WAIT)
    assert conversation.ids == undisturbed.ids
    assert said(records) == said(whole)
    assert conversation.audit.reject_prob == undisturbed.audit.reject_prob
    assert conversation.lost_links, "nothing was lost, so nothing was shown"


@pytest.mark.parametrize("name", ["blocks in flight", "skipping in flight, audited", "the LLM runs on"])
def test_verdicts_that_are_waited_for_in_real_time_are_asked_again_alike(address: Address, name: str) -> None:
    way, link, instant = WAYS[name], LinkSettings(radio=None, rtt_s=0.004), TimingProfile(0.0, 0.0)
    with bench(address, way.codec, clock=EnforcedClock(), link=link, timing=instant) as device:
        whole, _ = write(device, way, 1)
    with (
        Proxy(address, Fault.RESET, every=12) as proxy,
        bench(proxy.address, way.codec, clock=EnforcedClock(), link=link, timing=instant) as device,
    ):
        records, conversation = write(device, way, 1, WAIT)
    assert conversation.lost_links and said(records) == said(whole)


@pytest.mark.parametrize("real", [False, True], ids=["virtual", "real"])
@pytest.mark.parametrize("every", [8, 11, 17])
@pytest.mark.parametrize("fault", [Fault.RESET, Fault.TRUNCATE])
def test_a_tree_in_flight_under_wait_writes_what_it_writes_undisturbed(
    address: Address, fault: Fault, every: int, real: bool
) -> None:
    """What continued the tree on a lost stream is drafted anew: where a token came from may differ, what it is does not."""
    way = TREE_IN_FLIGHT
    link = LinkSettings(radio=None, rtt_s=0.02 if real else 0.15)
    lost = 0
    for index in range(3):
        with bench(address, way.codec) as device:
            _, undisturbed = write(device, way, index)
        clock = EnforcedClock() if real else None
        with (
            Proxy(address, fault, every=every) as proxy,
            bench(proxy.address, way.codec, link=link, clock=clock) as device,
        ):
            _, conversation = write(device, way, index, WAIT)
        assert conversation.ids == undisturbed.ids
        lost += conversation.lost_links
    assert lost, "nothing was lost, so nothing was shown"


def test_late_answers_are_no_loss(address: Address) -> None:
    way = WAYS["blocks in flight"]
    with bench(address, way.codec) as device:
        whole, _ = write(device, way, 0)
    with Proxy(address, Fault.DELAY, every=3) as proxy, bench(proxy.address, way.codec) as device:
        records, conversation = write(device, way, 0, WAIT)
        assert proxy.faults > 5
    assert said(records) == said(whole)
    assert conversation.lost_links == 0


@pytest.mark.parametrize("way", [WAYS["hlm"], WAYS["blocks in flight"], WAYS["llm"]], ids=["hlm", "blocks", "llm"])
def test_link_that_swallows_everything_is_given_up_and_opened_again(address: Address, way: Way) -> None:
    """Nobody says that it is lost: what is not answered in time is asked again on another stream."""
    with bench(address, way.codec) as device:
        whole, _ = write(device, way, 0)
    with Proxy(address, Fault.DROP, every=12) as proxy, bench(proxy.address, way.codec, timeout_s=0.3) as device:
        records, conversation = write(device, way, 0, WAIT)
    assert conversation.lost_links and said(records) == said(whole)


def test_dead_link_is_noticed_long_before_an_answer_is_overdue(address: Address) -> None:
    way = WAYS["hlm"]
    with bench(address, way.codec) as device:
        whole, _ = write(device, way, 0)
    # The interval of the command line would make a slow test.
    with (
        Proxy(address, Fault.DROP, every=25) as proxy,
        bench(proxy.address, timeout_s=60.0, keepalive_s=1.0) as device,
    ):
        began_s = time.monotonic()
        records, conversation = write(device, way, 0, WAIT)
        assert time.monotonic() - began_s < 30.0
    assert conversation.lost_links and said(records) == said(whole)


@pytest.mark.parametrize("way", [*WAYS.values(), TREE_IN_FLIGHT], ids=[*WAYS, "tree in flight"])
def test_everything_a_lost_link_cost_is_billed(address: Address, way: Way) -> None:
    with Proxy(address, Fault.CLOSE, every=9) as proxy, bench(proxy.address, way.codec) as device:
        records, conversation = write(device, way, 0, WAIT)
        bill = device.ledger.pop(conversation.open_round)
        totals = device.ledger.totals()
    assert conversation.lost_links
    with bench(address, way.codec) as device:
        plain, undisturbed = write(device, way, 0)
        cheaper = device.ledger.totals()
        opening = device.ledger.pop(undisturbed.open_round)
    billed = bill.wire_bytes + sum(record.wire_bytes for record in records)
    assert opening.wire_bytes + sum(record.wire_bytes for record in plain) == cheaper.wire_bytes
    assert cheaper.wire_bytes < billed <= totals.wire_bytes
    # In flight, an upload may leave on a stream that is dying when its round has been given up.
    assert billed > (0.9 if dict(way.decode).get("in_flight") else 0.999999) * totals.wire_bytes
    assert sum(record.llm_positions for record in records) > sum(record.llm_positions for record in plain)


def test_only_the_stream_that_takes_a_lost_ones_place_goes_on_in_its_fading(address: Address) -> None:
    opened: list[bool] = []

    def spied(link: Link, *arguments: object, again: bool = False) -> Session:
        opened.append(again)
        return plain(link, *arguments, again=again)

    plain = Link.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "open", spied)
        with Proxy(address, Fault.CLOSE, every=9) as proxy, bench(proxy.address) as device:
            for _ in range(2):
                write(device, WAYS["hlm"], 0, WAIT)
    assert opened[0] is False and opened.count(False) == 2, "an answer's own stream, each time"
    assert opened.count(True) >= 2


def test_undisturbed_answer_is_not_touched_by_the_rule(address: Address) -> None:
    # Longer than a busy machine may stand still: that would be an outage too.
    local = Outage(OnOutage.LOCAL, WAIT.bound_s)
    for way in WAYS.values():
        runs = []
        for outage in (None, WAIT, local):
            with bench(address, way.codec) as device:
                records, conversation = write(device, way, 1, outage)
                costs = [(r.draft_s, r.link_s, r.wire_bytes, r.model_bits, r.llm_forwards) for r in records]
                runs.append((said(records), costs, device.ledger.totals().wire_bytes, device.clock.now()))
            assert conversation.lost_links == 0
        assert runs == [runs[0]] * 3


def test_wait_ends_with_an_error_that_says_how_long(address: Address) -> None:
    with Proxy(address) as proxy, bench(proxy.address) as device:
        answer = device.decoder("hlm", 24, outage=Outage(OnOutage.WAIT, 0.3)).answer(started := start())
        next(answer)
        proxy.away()
        with pytest.raises(UnavailableError, match=r"waited for 0\.3 s"):
            list(answer)
        assert started.session is None


@pytest.mark.parametrize("outage", [WAIT, LOCAL])
@pytest.mark.parametrize("policy", ["hlm", "ui", "llm"])
def test_base_station_never_reached_is_not_waited_for(outage: Outage, policy: str) -> None:
    with serving(FakeEngine(Y, V)) as gone:
        pass
    with bench(gone) as device:
        began_s = time.monotonic()
        with pytest.raises(UnavailableError, match="no base station answers"):
            device.run(policy, PROMPT, outage=outage)
        assert time.monotonic() - began_s < 10.0


def test_other_model_after_the_restart_is_refused(address: Address) -> None:
    with serving(FakeEngine(Y, V, [STOP], name=7)) as other, Proxy(address) as proxy, bench(proxy.address) as device:
        answer = device.decoder("hlm", 24, outage=WAIT).answer(start())
        next(answer)
        proxy.target = other
        proxy.sever()
        with pytest.raises(MismatchError):
            list(answer)


def test_modelled_link_slower_than_the_wait_is_no_outage(address: Address) -> None:
    link, outage = LinkSettings(radio=None, rtt_s=1.5), Outage(OnOutage.LOCAL, 1.0)
    instant = TimingProfile(draft_s=0.0, forward_s=0.0)
    with bench(address, clock=EnforcedClock(), link=link, timing=instant) as device:
        conversation = start()
        records = list(device.decoder("hlm", 2, outage=outage).answer(conversation))
        conversation.end_session()
    assert conversation.lost_links == 0
    assert Origin.OUTAGE not in {record.origin for record in records}
