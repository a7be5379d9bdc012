"""What goes wrong on a call surfaces through the interceptor as itself."""

import asyncio

import grpc
import pytest

from link_bench import RADIO, Bench, draft, opening, run
from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.clock import EnforcedClock, SimulatedClock
from uihlm_wireless.fading import FadingMode, OutageError
from uihlm_wireless.settings import LinkSettings


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
