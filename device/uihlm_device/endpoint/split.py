"""The split model as a completer: a request waits for a drafter, and its answer crosses from that drafter's thread."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future

from uihlm_device.drafters.drafter import Drafter
from uihlm_device.endpoint.completer import (
    Asked,
    Card,
    Finished,
    Load,
    Prompt,
    TooLongError,
    Written,
)
from uihlm_device.endpoint.places import Place, Places
from uihlm_device.endpoint.writing import Leaving, Parts, Writing
from uihlm_models.errors import ModelError
from uihlm_proto.errors import InvalidRequestError

# Every JSON reader holds a number of so many bits exactly.
_SEED_BITS = 53


class SplitCompleter:
    """Answers with drafters here and one base station. Use on one event loop only.

    Attributes:
        card: what is served.
    """

    def __init__(
        self, card: Card, parts: Parts, drafters: Sequence[Drafter], max_waiting: int, seed: int | None
    ) -> None:
        """Write as many answers at once as there are drafters.

        Args:
            card: what is served.
            parts: what answers are written with.
            drafters: each with a cache of its own.
            max_waiting: requests that may wait for one of them.
            seed: of requests that name none; None makes one for each.
        """
        self.card = card
        self._parts = parts
        self._places = Places(drafters, max_waiting)
        self._seed = seed
        self._leavings: set[Leaving] = set()

    @property
    def load(self) -> Load:
        """Answers under way, and requests that wait."""
        return Load(self._places.busy, self._places.waiting)

    async def complete(self, asked: Asked) -> AsyncGenerator[Written | Finished]:
        """Write one answer; see `Completer.complete`."""
        if asked.scored and self._parts.score is None:
            raise InvalidRequestError(
                f"policy {self.card.policy} asks no LLM, so there is nobody to score its tokens: leave logprobs out"
            )
        # A sampling contract that there is not is refused before it waits.
        self._parts.settings(asked)
        ids = await asyncio.to_thread(self._ids, asked.prompt)
        seed = asked.seed if asked.seed is not None else self._seed
        if seed is None:
            seed = secrets.randbits(_SEED_BITS)
        started_s = time.monotonic()
        place = await self._places.take(ids)
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Written | Finished | None] = asyncio.Queue()
        leaving = Leaving()
        self._leavings.add(leaving)

        def tell(event: Written | Finished | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def done(job: Future[None]) -> None:
            tell(None)
            loop.call_soon_threadsafe(self._give, place, leaving)

        writing = Writing(self._parts, asked, ids, seed, time.monotonic() - started_s, leaving, tell)
        job = place.thread.submit(writing.write, place)
        job.add_done_callback(done)
        finished = False
        try:
            while (event := await events.get()) is not None:
                finished = isinstance(event, Finished)
                yield event
                if finished:
                    # The session is closed behind it; nobody needs to wait for that.
                    return
            job.result()
        finally:
            if not finished:
                leaving.leave()

    async def close(self) -> None:
        """Stop every answer under way, send away who waits, and return once every thread has ended."""
        for leaving in list(self._leavings):
            leaving.leave()
        await self._places.close()

    def _give(self, place: Place, leaving: Leaving) -> None:
        self._leavings.discard(leaving)
        self._places.give(place)

    def _ids(self, prompt: Prompt) -> list[int]:
        """Return the ids of a prompt."""
        tokenizer = self._parts.tokenizer
        if isinstance(prompt, str):
            ids = tokenizer.encode(prompt)
        elif prompt and not isinstance(prompt[0], int):
            turns = [(message.speaker.value, message.text) for message in prompt if not isinstance(message, int)]
            try:
                ids = self._parts.chat_format.conversation(turns)
            except ModelError as error:
                raise InvalidRequestError(str(error)) from error
        else:
            ids = [token for token in prompt if isinstance(token, int)]
            if not all(0 <= token < tokenizer.vocabulary_size for token in ids):
                raise InvalidRequestError(f"ids of a prompt lie in 0 … {tokenizer.vocabulary_size - 1}")
        if not ids:
            raise InvalidRequestError("there is nothing to answer: the prompt is empty")
        if len(ids) >= self.card.max_context:
            raise TooLongError(
                f"the prompt has {len(ids)} tokens, and prompt and answer together may have {self.card.max_context} here: "
                "shorten it"
            )
        return ids
