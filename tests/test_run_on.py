"""The LLM that runs on (`run_on`): the same tokens, forwards and bits, in less time on either clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.stream.session import RunOn
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.sampling import Sampling
from uihlm_wireless.clock import EnforcedClock
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

V, STOP = 48, 3
X = contextual(V, 1)
Y = mixed(X, contextual(V, 2), 0.35)
PROMPT = (5, 6, 7)
KNOBS = PolicySettings(theta_u=0.6, k=3, theta_c=0.5, rate=0.5)


@pytest.fixture
def address() -> Iterator[object]:
    with serving(FakeEngine(Y, V, [STOP])) as address:
        yield address


def bench(address, codec="dense32", link=None, timing=None, **settings):
    return Bench(address, FakeDrafter(X, V, [STOP]), codec, Sampling(), link, timing=timing, **settings)


def plain(records):
    """Records without what a stopwatch or the two flags on the wire decide."""
    measured = {"queue_s": 0.0, "forward_s": 0.0, "wire_bytes": 0, "uplink_wire_bytes": 0}
    return [replace(record, **measured) for record in records]


@pytest.mark.parametrize("codec", ["dense32", "coupled", "lattice:k=16,l=128"])
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("clock", [None, EnforcedClock])
def test_tokens_forwards_and_bits_are_those_of_a_base_station_that_waits(address, codec, window, clock):
    with bench(address, codec, clock=clock and clock(), timing=TimingProfile(0.0, 0.0)) as device:
        for index in range(3):
            waiting, running = (
                device.run("hlm", PROMPT, index=index, in_flight=window, run_on=run_on) for run_on in (False, True)
            )
            if window == 1:
                assert plain(running) == plain(waiting)
                # A forward that nobody needed would show here.
                assert sum(r.llm_forwards for r in running) == len(running) - 1
            assert [r.token for r in running] == [r.token for r in waiting]


def test_both_clocks_weigh_the_same_bytes(address):
    weights = []
    for clock in (None, EnforcedClock()):
        with bench(address, clock=clock) as device:
            records = device.run("hlm", PROMPT, run_on=True)
            weights.append(([r.token for r in records], [r.uplink_wire_bytes for r in records]))
    assert weights[0] == weights[1]


@pytest.mark.parametrize("policy", ["u", "i", "ui", "confidence", "random", "u-random", "slm", "llm"])
def test_policies_that_do_not_upload_every_token_are_left_alone(address, policy):
    with bench(address) as device:
        waiting, running = (device.run(policy, PROMPT, settings=KNOBS, run_on=run_on) for run_on in (False, True))
    assert [replace(r, queue_s=0.0) for r in running] == [replace(r, queue_s=0.0) for r in waiting]


# Draft and trip, forward: whichever takes longer is what a token takes.
PACES = {"the LLM is slower": (0.01, 0.05, 0.02), "draft and trip are slower": (0.04, 0.03, 0.02)}


@pytest.mark.parametrize("pace", PACES)
def test_a_token_takes_draft_and_trip_or_the_forward_and_not_their_sum(address, pace):
    draft_s, forward_s, rtt_s = PACES[pace]
    link, timing = LinkSettings(radio=None, rtt_s=rtt_s), TimingProfile(draft_s, forward_s)
    took_s = {}
    for run_on in (False, True):
        # Long enough for what an answer begins and ends with to weigh little.
        with bench(address, link=link, timing=timing) as device:
            began_s, tokens = device.clock.now(), 0
            for index in range(6):
                tokens += len(device.run("hlm", PROMPT, index=index, max_tokens=60, run_on=run_on))
            took_s[run_on] = (device.clock.now() - began_s) / tokens
    assert took_s[False] == pytest.approx(draft_s + rtt_s + forward_s, rel=0.1)
    assert took_s[True] == pytest.approx(max(draft_s + rtt_s, forward_s), rel=0.1)


def test_where_time_is_real_the_forward_runs_while_the_device_drafts(address):
    class Slow(FakeEngine):
        def forward(self, work):
            time.sleep(0.02)
            return super().forward(work)

    class SlowDrafter(FakeDrafter):
        def forward(self, *arguments, **more):
            time.sleep(0.02)
            return super().forward(*arguments, **more)

    took_s = {}
    with serving(Slow(Y, V)) as slow:
        for run_on in (False, True, False, True):
            with Bench(slow, SlowDrafter(X, V), "coupled", clock=EnforcedClock(), timing=TimingProfile()) as device:
                began_s = device.clock.now()
                tokens = len(device.run("hlm", PROMPT, max_tokens=24, run_on=run_on))
                took = (device.clock.now() - began_s) / tokens
                took_s[run_on] = min(took_s.get(run_on, took), took)
    assert took_s[True] < 0.8 * took_s[False]


def test_the_last_upload_of_an_answer_asks_for_nothing_that_follows(address):
    sent = []

    class Spied(Bench):
        def decoder(self, *arguments, **more):
            decoder = super().decoder(*arguments, **more)
            connect = decoder._connect

            def spied():
                stream = connect()
                upload = stream.upload
                stream.upload = lambda request, *rest: sent.append(request.run_on) or upload(request, *rest)
                return stream

            decoder._connect = spied
            return decoder

    with Spied(address, FakeDrafter(X, V), "coupled") as device:
        device.run("hlm", PROMPT, max_tokens=5, run_on=True)
    assert sent == [RunOn.COUNTED] * 4 + [RunOn.NO]


@pytest.mark.parametrize("other", [{"draft_length": 4}, {"draft_length": 0}, {"tree": 8}])
def test_blocks_and_trees_do_not_go_with_it(other):
    with pytest.raises(InvalidRequestError, match="behind single drafts only"):
        DecodeSettings(Sampling(), run_on=True, **other)
