"""A session that outlives its streams: what a lost stream has not answered is asked again on the next one.

    a stream is lost, its rounds r, r+1, … unanswered
      pause        with backoff and jitter (outage.py), until a base station answers or the wait is over
      Open         prompt + committed ids, as far as the lost one knew them (unanswered.py)
      Upload r …   as they were sent, under their own numbers, epochs counted from 0 anew

Draws are keyed by position and uploads are the same bytes, so their verdicts are those that the lost stream would have
brought. What the loss cost, in requests sent twice and prefixes run again, is charged to the next round that is answered.

When the wait is over, the device gives up, or goes on alone (`LinkLostError`): then `reachable` tries to come back without
waiting, and opens with all that was committed meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn, TypeVar

from uihlm_device.conversation import Conversation
from uihlm_device.outages.attempt import Attempt
from uihlm_device.outages.debts import Debts, held_s
from uihlm_device.outages.outage import Backoff, LinkLostError, OnOutage, Outage, sleep
from uihlm_device.outages.unanswered import Unanswered
from uihlm_device.stream.session import Cost, SilentError, Stream, Upload, Verdict
from uihlm_proto.errors import ExhaustedError, UihlmError, UnavailableError
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger

T = TypeVar("T")

# What another attempt may mend.
_PASSING = (UnavailableError, ExhaustedError)
_FAREWELL_S = 2.0  # for a session's end: the link may have been lost since the last verdict


class LastingSession:
    """A conversation's session (`uihlm_device.stream.session.Session`), whatever becomes of its streams."""

    def __init__(
        self, conversation: Conversation, connect: Callable[[], Stream], ledger: Ledger, clock: Clock, outage: Outage
    ) -> None:
        self._conversation = conversation
        self._connect = connect
        self._ledger = ledger
        self._clock = clock
        self._outage = outage
        self._backoff = Backoff()
        self._stream: Stream | None = None
        self._attempt: Attempt | None = None
        self._next_attempt_s = 0.0
        self._unanswered = Unanswered()
        self._unsent = 0
        self._open_round = 0
        self._open_cost: Cost | None = None
        self._open_lost = False  # the device went on alone before there was an answer to the first Open
        self._debts = Debts(ledger)
        self._max_context: int | None = None

    @property
    def max_context(self) -> int | None:
        """Ids a session may hold, as the base station said last; None before it has."""
        if self._stream is not None and self._stream.max_context is not None:
            self._max_context = self._stream.max_context
        return self._max_context

    def open(self, prefix_ids: Sequence[int], key: bytes) -> int:
        """Send Open and return its round without waiting."""
        self._stream = self._connect()
        self._unanswered.opened(prefix_ids, 0)
        self._open_round = self._stream.open(prefix_ids, key)
        return self._open_round

    def ready(self) -> Cost:
        """Wait for the first Ready; LinkLostError if the device went on alone before there was one."""
        if self._open_lost:
            raise LinkLostError("the base station was gone before it answered Open")

        def ask(stream: Stream, left_s: float) -> Cost:
            return self._open_cost or stream.ready(left_s)  # of a stream opened again it has been read

        if self._open_cost is None:
            self._open_cost = self._insist(ask, self._open_round)
        return self._open_cost

    def upload(self, upload: Upload) -> int:
        """Send an upload and return its round without waiting."""
        if self._stream is None:
            raise LinkLostError("the device writes alone: its base station is gone")
        sent = self._unanswered.sent_as(upload)
        if sent is None:
            # Rounds that are sent have numbers from 1.
            self._unsent += 1
            self._drop(-self._unsent)
            return -self._unsent
        number = self._stream.upload(sent)
        self._unanswered.add(number, upload)
        self._debts.charge(number)
        return number

    def arrived(self, round_number: int) -> bool:
        """Return whether the next verdict of a round is there, or what takes its place."""
        # What is not pending fell with a stream, or was never sent: it is answered as stale.
        if self._stream is None or round_number not in self._unanswered:
            return True
        return self._stream.arrived(round_number)

    def verdict(self, round_number: int) -> Verdict:
        """Wait for the next verdict of a round; one that the loss of a stream left without any is answered as stale."""
        if self._unanswered.walks_on(round_number):
            return self._walked(round_number)
        if not self._unanswered.stands(round_number):
            return self._useless(round_number)
        verdict = self._insist(lambda stream, left_s: stream.verdict(round_number, left_s), round_number)
        self._unanswered.take(round_number, verdict)
        owed = self._debts.taken()
        return verdict if owed == Cost() else replace(verdict, cost=verdict.cost.plus(owed))

    def reachable(self) -> bool:
        """Return whether there is a base station to ask; while the device is alone, try to come back without waiting."""
        if self._stream is not None:
            return True
        now_s, attempt = time.monotonic(), self._attempt
        if attempt is None:
            if now_s >= self._next_attempt_s:
                self._begin(now_s, self._conversation.ids)
            return False
        if not attempt.stream.arrived(attempt.round):
            if now_s - attempt.since_s > self._outage.bound_s:
                self._fail(attempt, SilentError("the base station is silent"))
            return False
        try:
            cost = attempt.stream.ready()
        except _PASSING as error:
            self._fail(attempt, error)
            self._next_attempt_s = now_s + self._backoff.pause_s(error)
            return False
        self._conversation.told = len(attempt.prefix)
        self._unanswered.opened(attempt.prefix, self._conversation.epoch)
        self._adopt(attempt, cost)
        return True

    def go_on(self, outage: Outage) -> None:
        """Begin another answer, in which an outage means this; where the device is alone, look for a base station."""
        self._outage = outage
        if self.reachable() or outage.on_outage is OnOutage.LOCAL:
            return
        if self._attempt is not None:
            self._fail(self._attempt, LinkLostError("another attempt takes its place"))
        self._conversation.told = len(self._conversation.ids)
        self._unanswered.opened(self._conversation.ids, self._conversation.epoch)
        self._backoff.over()
        self._come_back(time.monotonic() + outage.bound_s, 0, LinkLostError("the link was lost before"))

    def close(self) -> None:
        """End the stream; safe to call twice."""
        self._next_attempt_s = float("inf")
        if self._attempt is not None:
            self._attempt.stream.hang_up()
        stream, self._stream, self._attempt = self._stream, None, None
        if stream is not None:
            stream.close(min(self._outage.bound_s, _FAREWELL_S))

    def _insist(self, ask: Callable[[Stream, float], T], number: int) -> T:
        """Ask until there is an answer; reopen the stream where it fails."""
        end_s = time.monotonic() + self._outage.bound_s
        while True:
            stream = self._stream
            if stream is None:
                raise LinkLostError("the device writes alone: its base station is gone")
            try:
                answer = self._await(ask, stream, end_s, number)
            except UnavailableError as error:
                if not stream.reached:
                    raise
                self._lose(stream, error)
                self._come_back(end_s, number, error)
            else:
                self._backoff.over()
                return answer

    def _await(self, ask: Callable[[Stream, float], T], stream: Stream, end_s: float, number: int) -> T:
        """Ask once: until `end_s`, or for as long as any one answer may take; what the link takes comes on top."""
        end_s = min(end_s, time.monotonic() + stream.timeout_s)
        while True:
            try:
                return ask(stream, max(0.0, end_s + self._held_s(number) - time.monotonic()))
            except SilentError:
                # The modelled link may have taken the message only after we looked.
                if time.monotonic() >= end_s + self._held_s(number):
                    raise

    def _held_s(self, number: int) -> float:
        # A stream's first upload waits for Open too.
        return 0.0 if self._clock.simulated else held_s(self._ledger, {number, self._open_round})

    def _walked(self, number: int) -> Verdict:
        """Return the verdict on what continues a tree; stale where its stream is lost: another one knows no tree."""
        asked = self._stream

        def ask(stream: Stream, left_s: float) -> Verdict:
            return stream.verdict(number, left_s) if stream is asked else Verdict(0, None, stale=True)

        if (verdict := self._insist(ask, number)).stale:
            self._unanswered.drop(number)
        else:
            self._unanswered.walked(number, verdict)
        return verdict

    def _useless(self, number: int) -> Verdict:
        """Return the answer to an upload that fell with a correction, or with its stream."""
        stream = self._stream
        if self._unanswered.drop(number) and stream is not None:
            try:
                return stream.verdict(number, min(self._outage.bound_s, stream.timeout_s))
            except UnavailableError:
                # Whoever waits for a verdict of use will find the stream lost.
                self._ledger.fold(number, number)
        return Verdict(0, None, stale=True)

    def _lose(self, stream: Stream, error: UihlmError) -> None:
        self._conversation.lost_links += 1
        if self._open_cost is None and not self._open_lost and stream.arrived(self._open_round):
            with contextlib.suppress(*_PASSING):
                self._open_cost = stream.ready()
        stream.hang_up(dead=isinstance(error, SilentError))
        self._stream = None

    def _come_back(self, end_s: float, number: int, error: UihlmError) -> None:
        """Open another stream and ask on it what stands; give up, or go on alone, at `end_s`."""
        while True:
            pause_s = self._backoff.pause_s(error)
            if time.monotonic() + pause_s >= end_s:
                self._give_up(error)
            sleep(pause_s)
            attempt = self._begin(time.monotonic(), self._unanswered.known)
            try:
                cost = self._await(lambda stream, left_s: stream.ready(left_s), attempt.stream, end_s, attempt.round)
            except _PASSING as repeated:
                error = repeated
                self._fail(attempt, error)
                continue
            self._unanswered.opened(attempt.prefix, self._unanswered.epoch)
            self._adopt(attempt, cost)
            for standing, upload in self._unanswered.again():
                self._ledger.fold(standing, standing)
                attempt.stream.upload(upload, standing)
            for fallen in self._unanswered:
                if not self._unanswered.stands(fallen):
                    self._drop(fallen)
            if self._unanswered.stands(number):
                self._debts.charge(number)
            return

    def _begin(self, now_s: float, prefix: Sequence[int]) -> Attempt:
        """Open a stream on these ids."""
        stream, told = self._connect(), list(prefix)
        self._attempt = Attempt(stream, stream.open(told, self._conversation.key, again=True), told, now_s)
        return self._attempt

    def _fail(self, attempt: Attempt, error: UihlmError) -> None:
        attempt.stream.hang_up(dead=isinstance(error, SilentError))
        self._debts.owe(attempt.round)
        self._attempt = None

    def _adopt(self, attempt: Attempt, cost: Cost) -> None:
        """Go on with a stream whose prefix stands."""
        self._attempt, self._stream = None, attempt.stream
        if self._open_cost is None and not self._open_lost:
            # The first Open was never answered: this is its answer.
            self._open_cost = cost
            self._debts.owe(self._open_round)
            self._debts.owe(attempt.round)
            self._debts.charge(self._open_round)
        else:
            self._debts.owe(attempt.round, cost)

    def _drop(self, number: int) -> None:
        """Give up on a round; its bill, if it was sent, can still be taken."""
        self._unanswered.drop(number)
        self._ledger.fold(number, number)

    def _give_up(self, error: UihlmError) -> NoReturn:
        for number in self._unanswered:
            self._drop(number)
        waited = f"the base station was waited for {self._outage.bound_s:g} s"
        if self._outage.on_outage is OnOutage.WAIT:
            raise UnavailableError(f"{waited}, and is gone: {error}") from error
        if self._open_cost is None and not self._open_lost:
            self._debts.owe(self._open_round)
            self._open_lost = True
        self._next_attempt_s = time.monotonic() + self._backoff.pause_s(error)
        raise LinkLostError(f"{waited}: {error}") from error
