"""The LLM writes by itself (`Upload.generate`, policy `llm`): its tokens, and when the device is told of them.

    row → draw → forward → row → draw → forward → …        told after the first token, then after every `interval`

Where nobody is told, nobody is woken: the engine draws in its own thread and goes on (`GoOn`), unless another session waits for
it. With an interval of 1 somebody always is: a token is drawn on the event loop, and the next forward begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple

from uihlm_basestation.engines.engine import Float32Array, Work
from uihlm_basestation.parts import Forwarded
from uihlm_basestation.prefix import Prefix
from uihlm_basestation.verification import draw_alone
from uihlm_proto.codecs import Judge
from uihlm_proto.sampling import Row, Sampling


class Told(NamedTuple):
    """What a verdict tells of.

    Attributes:
        tokens: written since the one before, at least one.
        last: whether they end the answer.
        forwarded: the forwards that were made for them; None if the row was at hand.
    """

    tokens: list[int]
    last: bool
    forwarded: Forwarded | None


class _Pen:
    """Draws the tokens of an answer: on the event loop, or in the engine's thread while a forward of theirs is awaited."""

    def __init__(self, prefix: Prefix, sampling: Sampling, limit: int, interval: int) -> None:
        self.tokens: list[int] = []
        self._told = 0
        # How many tokens the engine has been given: the row behind the last of these says what follows.
        self._given = 0
        self._prefix = prefix
        self._sampling = sampling
        self._start = len(prefix.ids)
        self._limit = limit
        self._interval = interval

    @property
    def unseen(self) -> list[int]:
        """Tokens that the prefix has not been given."""
        return self.tokens[len(self._prefix.ids) - self._start :]

    @property
    def behind(self) -> bool:
        """Whether nothing has been drawn yet from the engine's last row: it did not go on, since somebody waited for it."""
        return len(self.tokens) == self._given

    @property
    def ended(self) -> bool:
        """Whether the last token ends the answer: a stop id, or as many as are allowed."""
        return bool(self.tokens) and (len(self.tokens) == self._limit or self.tokens[-1] in self._prefix.stop_ids)

    @property
    def due(self) -> bool:
        """Whether the device is to be told now: a reader waits for the first token, and for nothing after the last."""
        return self._told == 0 or len(self.tokens) - self._told >= self._interval or self.ended

    def tell(self) -> list[int]:
        """Return what the device has not been told of."""
        told, self._told = self._told, len(self.tokens)
        return self.tokens[told:]

    def give(self) -> None:
        """Say that the engine is given all tokens there are."""
        self._given = len(self.tokens)

    def draw(self, row: Float32Array) -> None:
        """Draw the next token from the LLM's raw logits `[V]`."""
        position = self._start + len(self.tokens)
        self.tokens.append(draw_alone(Row(row, self._sampling), self._prefix.draws, position))

    def go_on(self, rows: Float32Array) -> Work | None:
        """Draw from the last of `rows`, `[rows, V]`; return the forward of what was drawn, None where a verdict comes first."""
        self.draw(rows[-1])
        if self.due:
            return None
        self.give()
        position = self._start + len(self.tokens) - 1
        return Work(self._prefix.session, position, self.tokens[-1:], 1)


async def write(prefix: Prefix, sampling: Sampling, limit: int, interval: int) -> AsyncGenerator[Told]:
    """Write up to `limit` tokens behind a prefix, at least one, and yield what is to be told, when it is.

    Args:
        prefix: takes the tokens.
        sampling: the session's contract.
        limit: most tokens.
        interval: tokens a verdict, but for the first, which tells of one, and the last; 0 is 1.
    """
    pen = _Pen(prefix, sampling, limit, interval)
    go_on = pen.go_on if interval > 1 else None
    running: asyncio.Future[Forwarded] | None = None
    if prefix.row is None or prefix.ran < len(prefix.ids):
        running = prefix.next_row(Judge.COUPLED, go_on)
    spent: Forwarded | None = None
    ended = False
    try:
        while not ended:
            if running is not None:
                forwarded = await running
                spent = forwarded if spent is None else spent.plus(forwarded)
                prefix.take(forwarded)
            if pen.behind:
                assert prefix.row is not None, "with nothing to run, the last row is at hand"
                pen.draw(prefix.row)
            prefix.append(pen.unseen)
            ended, news = pen.ended, pen.tell() if pen.due else []
            # From the next forward on the pen is the engine's.
            pen.give()
            # The engine runs on while the verdict is written.
            running = None if ended else prefix.next_row(Judge.COUPLED, go_on)
            if news:
                told, spent = Told(news, ended, spent), None
                yield told
    finally:
        # Whoever left waits for nothing; asyncio does not log the error of what was cancelled, however late.
        if running is not None:
            running.cancel()
