"""Same seed, same tokens: on either clock, and whatever the link."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from fakes import FakeEngine, serving
from loop_reference import ASKING, KNOBS, POLICIES, PROMPT, V, Y
from same_tokens import INSTANT, bench, lines, tokens
from uihlm_proto.addresses import Address
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import AirtimeBasis, LinkSettings


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(FakeEngine(Y, V)) as served:
        yield served


# Some milliseconds a round, so that the enforced clock has something to wait for.
_FAST = RadioLink(20e6, 23.0, -96.0, 300.0, 4.0)
LINKS = {
    "plain": LinkSettings(_FAST, rtt_s=0.002),
    "grant and downlink": LinkSettings(_FAST, rtt_s=0.002, grant_delay_s=0.001, downlink=_FAST),
    "faded": LinkSettings(_FAST, FadingMode.SLOTTED, fading_seed=5, coherence_s=1e-6, rtt_s=0.001),
    "airtime by the wire": LinkSettings(RadioLink(1e6, 23.0, -104.0, 1000.0), rtt_s=0.001, airtime=AirtimeBasis.WIRE),
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS.keys())
@pytest.mark.parametrize("policy", ASKING)
def test_both_clocks_write_the_same_tokens_and_the_same_bill(address: Address, policy: str, link: LinkSettings) -> None:
    with bench(address, link=link, timing=INSTANT) as virtual:
        simulated = virtual.run(policy, PROMPT, settings=KNOBS)
    with bench(address, link=link, timing=INSTANT, clock=EnforcedClock()) as real:
        started_s = time.perf_counter()
        enforced = real.run(policy, PROMPT, settings=KNOBS)
        took_s = time.perf_counter() - started_s
    assert lines(simulated) == lines(enforced)
    link_s = sum(record.link_s for record in simulated)
    assert link_s > 0.0 and took_s >= link_s
    # Open's answer may be charged before the first upload or after it, which moves the last bit of a sum of seconds.
    assert asdict(virtual.ledger.totals()) == pytest.approx(asdict(real.ledger.totals()), rel=1e-12)


def test_the_virtual_clock_does_not_sleep(address: Address) -> None:
    with bench(address, link=LinkSettings(rtt_s=3600.0)) as device:
        started_s = time.perf_counter()
        device.run("hlm", PROMPT, max_tokens=8)
        assert time.perf_counter() - started_s < 30.0
        assert device.clock.now() > 8 * 3600.0


@pytest.mark.parametrize("policy", POLICIES)
def test_the_link_does_not_change_the_text(address: Address, policy: str) -> None:
    texts = []
    for link in (None, LinkSettings(), LINKS["faded"]):
        with bench(address, link=link) as device:
            texts.append(tokens(device.run(policy, PROMPT, settings=KNOBS)))
    assert texts[0] == texts[1] == texts[2]
