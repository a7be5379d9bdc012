"""The interceptor through a real grpc.aio server, under both clocks."""

import itertools
import time

import grpc
import pytest

from link_bench import RADIO, SETTINGS, Bench, V, draft, opening, run
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.clock import EnforcedClock, SimulatedClock
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.meter import wire_bytes
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.timing import TimingProfile


def bills_of(clock, settings=SETTINGS, timing=None):
    async def scenario():
        async with Bench(clock, settings, timing) as bench:
            await bench.waiting([opening(), draft(2), draft(3, skipped=5), draft(4)])
            return [bench.ledger.bill(round_) for round_ in (1, 2, 3, 4)], clock.now()

    return run(scenario())


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        LinkSettings(radio=RADIO, fading=FadingMode.SLOTTED),
        LinkSettings(radio=RADIO, fading=FadingMode.BLOCK),
    ],
    ids=["delays", "slotted", "block"],
)
def test_both_clocks_give_the_same_bits_and_link_seconds(settings):
    simulated, _ = bills_of(SimulatedClock(), settings)
    enforced, _ = bills_of(EnforcedClock(), settings)
    assert simulated == enforced
    assert all(bill.link_s > 0 for bill in simulated[1:])


def test_a_waiting_loop_takes_what_the_model_says():
    bills, end = bills_of(SimulatedClock())
    computed = 4 * 0.002 + sum(bill.forward_s for bill in bills)
    assert end == pytest.approx(sum(bill.link_s for bill in bills) + computed)


def test_an_enforced_link_really_takes_its_time():
    _, modelled = bills_of(SimulatedClock())
    started = time.monotonic()
    _, end = bills_of(EnforcedClock())
    assert modelled > 0.3
    assert modelled * 0.9 < end < modelled + 2.0
    assert time.monotonic() - started > modelled * 0.9


def test_a_simulated_link_takes_no_real_time():
    slow = LinkSettings(radio=RadioLink(), rtt_s=100.0)
    started = time.monotonic()
    _, end = bills_of(SimulatedClock(), slow)
    assert end > 400.0
    assert time.monotonic() - started < 10.0


def test_every_byte_and_bit_is_billed():
    bills, _ = bills_of(SimulatedClock())
    requests = [opening(), draft(2), draft(3, skipped=5), draft(4)]
    assert [bill.uplink_wire_bytes for bill in bills] == [wire_bytes(r.ByteSize()) for r in requests]
    assert [bill.model_bit for bill in bills] == [0, V * 32, V * 32, V * 32]
    assert [bill.payload_bit for bill in bills] == [0, 8 * 401, 8 * 401 + 5 * 7, 8 * 401]
    assert all(bill.downlink_wire_bytes > 14 for bill in bills)
    assert bills[0].rtt_s == 0.04
    assert bills[0].airtime_s == 0.0
    assert bills[1].airtime_s == pytest.approx(0.032)


def test_a_fixed_forward_is_what_the_clock_is_charged():
    bills, _ = bills_of(SimulatedClock(), timing=TimingProfile(forward_s=3.0))
    assert [bill.forward_s for bill in bills] == [3.0] * 4


def test_generate_streams_its_verdicts_in_order_under_one_round():
    async def scenario():
        async with Bench(SimulatedClock()) as bench:
            going_on = pb.VerifyRequest(upload=pb.Upload(round=2, generate=3))
            answers = await bench.waiting([opening(), going_on])
            parts = [bench.ledger.pop(2) for _ in range(3)]
            return answers, parts

    answers, parts = run(scenario())
    assert [answer.verdict.token_id for answer in answers[1:]] == [0, 1, 2]
    assert parts[0].rtt_s == 0.04
    assert parts[0].grant_s == 0.01
    assert [part.link_s for part in parts[1:]] == [part.downlink_s for part in parts[1:]]


def test_enforced_arrivals_are_pipelined():
    """Three uploads handed over at once reach the base station one airtime apart, whatever the round trip."""
    settings = LinkSettings(radio=RADIO, rtt_s=0.5)

    async def scenario():
        async with Bench(EnforcedClock(), settings) as bench:

            async def outgoing():
                for request in (opening(), draft(2), draft(3), draft(4)):
                    yield request

            async for _ in bench.stub.Verify(outgoing()):
                pass
            return [at for at, _ in bench.servicer.arrived]

    arrived = run(scenario())
    gaps = [b - a for a, b in itertools.pairwise(arrived)]
    assert gaps[0] == pytest.approx(0.532, abs=0.1)
    assert gaps[1] == pytest.approx(0.032, abs=0.03)
    assert gaps[2] == pytest.approx(0.032, abs=0.03)


def test_an_enforced_answer_is_not_seen_before_the_link_has_brought_it():
    async def scenario():
        async with Bench(EnforcedClock(), LinkSettings(radio=RADIO, rtt_s=0.2)) as bench:
            seen = []

            async def outgoing():
                for request in (opening(), draft(2)):
                    yield request

            async for response in bench.stub.Verify(outgoing()):
                answer = getattr(response, response.WhichOneof("message"))
                seen.append((bench.clock.now(), bench.clock.verdict_at(answer.round)))
            return seen

    seen = run(scenario())
    assert len(seen) == 2
    assert all(at <= now < at + 0.1 for now, at in seen)


def test_other_methods_pass_untouched():
    async def echo(request_iterator, context):
        async for request in request_iterator:
            yield request

    async def scenario():
        async with Bench(SimulatedClock(), profile("paper")) as bench:
            bench.server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("other", {"Echo": grpc.stream_stream_rpc_method_handler(echo)}),)
            )

            async def outgoing():
                yield b"not a VerifyRequest"

            echoed = [answer async for answer in bench.channel.stream_stream("/other/Echo")(outgoing())]
            scores = await bench.stub.Score(pb.ScoreRequest(context_ids=[1], target_ids=[2]))
            return echoed, list(scores.log_probabilities), bench.ledger.totals()

    echoed, scores, totals = run(scenario())
    assert (echoed, scores) == ([b"not a VerifyRequest"], [-1.0])
    assert totals.wire_bytes == 0


@pytest.mark.parametrize(("clock", "noted"), [(EnforcedClock, 2), (SimulatedClock, 0)])
def test_only_a_real_clock_tells_by_how_much_answers_came_late(clock, noted):
    async def scenario():
        async with Bench(clock(), LinkSettings(radio=None)) as bench:

            async def outgoing():
                for request in (opening(), draft(2)):
                    yield request

            async for _ in bench.stub.Verify(outgoing()):
                pass
            return bench.ledger.take_late()

    late_s = run(scenario())
    assert len(late_s) == noted
    assert all(0.0 <= seconds < 5.0 for seconds in late_s)
