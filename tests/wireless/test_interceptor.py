"""The interceptor through a real grpc.aio server, under both clocks."""

import asyncio
import itertools
import time

import grpc
import pytest

from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb
from uihlm_proto.v1 import verification_pb2_grpc as pb_grpc
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.clock import EnforcedClock, SimulatedClock
from uihlm_wireless.fading import FadingMode, OutageError
from uihlm_wireless.interceptor import LinkInterceptor
from uihlm_wireless.ledger import Ledger
from uihlm_wireless.link import Link
from uihlm_wireless.meter import wire_bytes
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

V = 100
# 0 dB at 100 kHz: 100 kbit/s; a dense32 draft of V = 100 takes 32 ms.
RADIO = RadioLink(bandwidth_hz=1e5, transmit_power_dbm=0.0, noise_dbm=0.0, distance_m=1.0)
SETTINGS = LinkSettings(radio=RADIO, rtt_s=0.04, grant_delay_s=0.01, downlink=RADIO)


class Servicer(pb_grpc.VerificationServiceServicer):
    """Accepts everything, says 5 ms of forward; notes what arrived and when."""

    def __init__(self):
        self.arrived = []
        self.ended = asyncio.Event()

    async def Verify(self, request_iterator, context):
        try:
            async for request in request_iterator:
                self.arrived.append((time.monotonic(), request))
                cost = pb.Cost(forward_s=0.005, queue_s=0.0, forwards=1, positions=1)
                if request.WhichOneof("message") == "open":
                    yield pb.VerifyResponse(ready=pb.Ready(round=request.open.round, max_context=99, cost=cost))
                elif request.upload.generate:
                    for n in range(request.upload.generate):
                        last = n == request.upload.generate - 1
                        yield pb.VerifyResponse(
                            verdict=pb.Verdict(round=request.upload.round, token_id=n, last=last, cost=cost)
                        )
                elif request.upload.epoch == 99:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such epoch")
                elif request.upload.epoch == 98:
                    yield pb.VerifyResponse(verdict=pb.Verdict(round=12345))
                else:
                    yield pb.VerifyResponse(verdict=pb.Verdict(round=request.upload.round, accepted=1, cost=cost))
        finally:
            self.ended.set()

    async def Score(self, request, context):
        return pb.ScoreResponse(log_probabilities=[-1.0])


def opening(round_=1, codec="dense32"):
    return pb.VerifyRequest(
        open=pb.Open(round=round_, vocabulary_size=V, prefix_ids=[1, 2], codec=codec, session_key=session_key(0, 0))
    )


def draft(round_, skipped=0, **more):
    payload = bytes(1 + 4 * V)
    return pb.VerifyRequest(
        upload=pb.Upload(round=round_, skipped_ids=[3] * skipped, drafts=[pb.Draft(payload=payload)], **more)
    )


class Bench:
    """Server, channel and link in one event loop."""

    def __init__(self, clock, settings=SETTINGS, timing=None):
        self.clock = clock
        self.ledger = Ledger()
        self.link = Link(settings, clock, timing or TimingProfile())
        self.servicer = Servicer()

    async def __aenter__(self):
        self.server = grpc.aio.server()
        pb_grpc.add_VerificationServiceServicer_to_server(self.servicer, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", interceptors=[LinkInterceptor(self.link, self.ledger)]
        )
        await asyncio.wait_for(self.channel.channel_ready(), 10)
        self.stub = pb_grpc.VerificationServiceStub(self.channel)
        return self

    async def __aexit__(self, *_):
        await self.channel.close()
        await self.server.stop(0)

    async def waiting(self, requests):
        """Send each request once the one before is answered, as the decode loop does; return the answers."""
        outbox, answers = asyncio.Queue(), []

        async def outgoing():
            while (request := await outbox.get()) is not None:
                yield request

        outbox.put_nowait(requests[0])
        left = iter(requests[1:])
        async for response in self.stub.Verify(outgoing()):
            answers.append(response)
            kind = response.WhichOneof("message")
            answer = getattr(response, kind)
            self.clock.wait_until(self.clock.verdict_at(answer.round))
            if kind == "ready" or answer.accepted or answer.last:
                self.clock.advance(0.002)
                outbox.put_nowait(next(left, None))
        return answers


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


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


async def until_it_fails(bench, *requests, error=None):
    async def outgoing():
        for request in requests:
            yield request
        if error is not None:
            raise error
        await asyncio.sleep(60)

    async for _ in bench.stub.Verify(outgoing()):
        pass


@pytest.mark.parametrize("clock", [SimulatedClock, EnforcedClock])
def test_an_error_among_the_requests_surfaces_as_itself(clock):
    class OddError(Exception):
        pass

    async def scenario():
        async with Bench(clock()) as bench:
            with pytest.raises(OddError, match="mine"):
                await until_it_fails(bench, opening(), error=OddError("mine"))

    run(scenario())


def test_the_links_own_errors_surface_as_themselves():
    async def scenario():
        outage = LinkSettings(radio=RADIO, fading=FadingMode.BLOCK, outage_rate_bit_s=1e12)
        async with Bench(SimulatedClock(), outage) as bench:
            with pytest.raises(OutageError):
                await until_it_fails(bench, opening(), draft(2))
        async with Bench(SimulatedClock()) as bench:
            with pytest.raises(ProtocolError, match="Open first"):
                await until_it_fails(bench, draft(2))
            with pytest.raises(InvalidRequestError, match="unknown codec"):
                await until_it_fails(bench, opening(codec="morse"))
            with pytest.raises(ProtocolError, match="12345"):
                await until_it_fails(bench, opening(), draft(2, epoch=98))

    run(scenario())


def test_a_refusal_by_the_base_station_keeps_its_status_and_words():
    async def scenario():
        async with Bench(SimulatedClock()) as bench:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await until_it_fails(bench, opening(), draft(2, epoch=99))
            return refused.value

    error = run(scenario())
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "no such epoch")


def test_a_reader_that_is_cancelled_while_an_answer_is_held_ends_the_session():
    async def scenario():
        one_bit_a_second = RadioLink(1.0, 0.0, 0.0, 1.0)
        async with Bench(EnforcedClock(), LinkSettings(radio=RADIO, downlink=one_bit_a_second)) as bench:
            reader = asyncio.create_task(until_it_fails(bench, opening()))
            while not bench.servicer.arrived:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            await asyncio.wait_for(bench.servicer.ended.wait(), 5)

    run(scenario())


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
