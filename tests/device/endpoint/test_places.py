"""Who writes, who waits, who is sent away."""

from __future__ import annotations

import asyncio

import pytest

from fakes import FakeDrafter, contextual
from uihlm_device.endpoint.places import Place, Places
from uihlm_proto.errors import ExhaustedError, UnavailableError

V = 16


def places(count: int, max_waiting: int = 8) -> Places:
    return Places([FakeDrafter(contextual(V, 1), V) for _ in range(count)], max_waiting)


def test_a_place_counts_the_ids_it_shares_with_a_prompt():
    place = Place(FakeDrafter(contextual(V, 1), V), held=[1, 2, 3])
    assert [place.shared(ids) for ids in ([1, 2, 3, 4], [1, 2], [1, 5, 3], [9], [])] == [3, 2, 1, 0, 0]


@pytest.mark.parametrize(
    "prompt, chosen",
    [
        ([1, 2, 9, 9, 4], 1),  # goes on with the second
        ([1, 2, 3], 0),
        ([1, 2, 5], 0),  # finds more than it throws away
        ([1, 7, 7, 7], 2),  # a prompt that only begins alike takes the one used longest ago
        ([8], 2),
    ],
)
def test_a_request_gets_the_free_drafter_whose_cache_it_goes_on_with(prompt, chosen):
    async def run() -> None:
        three = places(3)
        taken = [await three.take([1]) for _ in range(3)]
        for place, held in zip(taken, ([1, 2, 3], [1, 2, 9, 9, 9, 9], [5, 5, 5]), strict=True):
            place.held = held
        for place in (taken[2], taken[1], taken[0]):
            three.give(place)
        assert taken.index(await three.take(prompt)) == chosen

    asyncio.run(run())


def test_requests_are_served_in_the_order_they_came():
    async def run() -> None:
        one = places(1)
        served: list[int] = []

        async def request(number: int) -> None:
            place = await one.take([number])
            served.append(number)
            await asyncio.sleep(0)
            one.give(place)

        await asyncio.gather(*map(request, range(6)))
        assert served == list(range(6))
        assert (one.busy, one.waiting) == (0, 0)

    asyncio.run(run())


def test_one_request_too_many_is_told_when_to_come_again():
    async def run() -> None:
        full = places(1, max_waiting=1)
        await full.take([1])
        waiting = asyncio.ensure_future(full.take([2]))
        await asyncio.sleep(0)
        with pytest.raises(ExhaustedError, match="--max-waiting") as caught:
            await full.take([3])
        assert caught.value.retry_after_s >= 1.0
        waiting.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("called", [False, True])
def test_who_leaves_the_queue_holds_nobody_up(called):
    async def run() -> None:
        one = places(1)
        place = await one.take([1])
        leaver = asyncio.ensure_future(one.take([2]))
        stayer = asyncio.ensure_future(one.take([3]))
        await asyncio.sleep(0)
        if called:
            # Its turn comes in the very moment in which it leaves.
            one.give(place)
        leaver.cancel()
        await asyncio.sleep(0)
        if not called:
            assert one.waiting == 1
            one.give(place)
        assert await asyncio.wait_for(stayer, 1) is place
        assert (one.busy, one.waiting) == (1, 0)

    asyncio.run(run())


def test_closing_sends_away_who_waits():
    async def run() -> None:
        one = places(1)
        await one.take([1])
        waiting = asyncio.ensure_future(one.take([2]))
        await asyncio.sleep(0)
        await one.close()
        with pytest.raises(UnavailableError, match="shutting down"):
            await waiting

    asyncio.run(run())
