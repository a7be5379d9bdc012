"""What a loop that waits for each verdict did, written down once and played on any link; the prompt's prefill is free.

    compute · upload → verdict · compute · upload → verdict · …

While the loop waits, its tokens and its rounds do not depend on the link: only the instants do. So it runs once, and the
link's own code says how long it would have taken elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uihlm_wireless.clock import Clock, SimulatedClock
from uihlm_wireless.ledger import RoundBill
from uihlm_wireless.link import Link, Session
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile


@dataclass(slots=True)
class Tape:
    """Events in order; each takes the player and does again what was done.

    Attributes:
        events: of all prompts.
        ends: how many events there were at the end of each prompt.
    """

    events: list[Callable[[_Player], None]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def play(self, settings: LinkSettings, timing: TimingProfile) -> tuple[list[float], list[float]]:
        """Return the seconds and the airtime, seconds, of each prompt on a link."""
        player = _Player(Link(settings, SimulatedClock(), timing))
        elapsed_s, airtime_s, start = [], [], 0
        for end in self.ends:
            before_s, air_s = player.link.clock.now(), player.airtime_s
            for event in self.events[start:end]:
                event(player)
            elapsed_s.append(player.link.clock.now() - before_s)
            airtime_s.append(player.airtime_s - air_s)
            start = end
        return elapsed_s, airtime_s


@dataclass(slots=True)
class _Player:
    link: Link
    airtime_s: float = 0.0
    _session: Session | None = None
    _verdict_at: float = 0.0

    @property
    def session(self) -> Session:
        assert self._session is not None, "a tape starts with an Open"
        return self._session

    def open(self, round_: int, wire_bytes: int, key: bytes) -> None:
        self._session = self.link.open(round_, self.link.clock.now(), wire_bytes, key)
        self.airtime_s += self.session.request_bill.airtime_s

    def upload(self, *weights: int) -> None:
        round_, *rest = weights
        self.session.upload(round_, self.link.clock.now(), *rest)
        self.airtime_s += self.session.request_bill.airtime_s

    def answer(self, *values: Any, **more: Any) -> None:
        self._verdict_at = self.session.verdict(*values, **more)[0]


class TapedClock(SimulatedClock):
    """A virtual clock that writes down compute and waits."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def advance(self, seconds: float) -> None:
        """Move on, and note it."""
        super().advance(seconds)
        self._tape.events.append(lambda player: player.link.clock.advance(seconds))

    def wait_until(self, at: float) -> None:
        """Jump, and note that it was to the last verdict."""
        super().wait_until(at)
        self._tape.events.append(lambda player: player.link.clock.wait_until(player._verdict_at))


class TapedLink(Link):
    """A link that writes down every message."""

    def __init__(self, settings: LinkSettings, clock: Clock, timing: TimingProfile, tape: Tape) -> None:
        super().__init__(settings, clock, timing)
        self._tape = tape

    def open(self, round: int, now: float, wire_bytes: int, session_key: bytes, *, again: bool = False) -> Session:
        """Open, and note it."""
        session = super().open(round, now, wire_bytes, session_key, again=again)
        self._tape.events.append(lambda player: player.open(round, wire_bytes, session_key))
        return _TapedSession(session, self._tape)


class _TapedSession(Session):
    def __init__(self, session: Session, tape: Tape) -> None:
        for name, value in vars(session).items():
            setattr(self, name, value)
        self._tape = tape

    def upload(self, round: int, now: float, model_bit: int, payload_bit: int, wire_bytes: int) -> float:
        self._tape.events.append(lambda player: player.upload(round, model_bit, payload_bit, wire_bytes))
        return super().upload(round, now, model_bit, payload_bit, wire_bytes)

    def ready(
        self, round: int, wire_bytes: int, forward_s: float, queue_s: float = 0.0, *, positions: int = 1
    ) -> tuple[float, RoundBill]:
        """Take the answer to Open as if nothing had run for it."""
        return super()._answer(round, wire_bytes, 0.0, 0.0, 0)

    def verdict(
        self, round: int, wire_bytes: int, forward_s: float, queue_s: float = 0.0, **more: Any
    ) -> tuple[float, RoundBill]:
        self._tape.events.append(lambda player: player.answer(round, wire_bytes, forward_s, queue_s, **more))
        return super().verdict(round, wire_bytes, forward_s, queue_s, **more)
