"""Sessions that fall silent: their place is another's after a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from uihlm_proto.errors import UnavailableError

T = TypeVar("T")


async def unless_idle(requests: AsyncIterator[T], idle_s: float) -> AsyncIterator[T]:
    """Yield requests as they come; time is counted only while the next one is waited for.

    Raises:
        UnavailableError: if none has come for `idle_s`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(idle_s) as limit:
            async for request in requests:
                limit.reschedule(None)
                yield request
                limit.reschedule(loop.time() + idle_s)
    except TimeoutError:
        raise UnavailableError(
            f"nothing was heard for {idle_s:g} s, so the session was closed: connect again to go on"
        ) from None
