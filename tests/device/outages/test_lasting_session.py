"""What a session holds on to: after many outages no more than after few, whatever the loop asks of it."""

from __future__ import annotations

import functools
import time

import pytest

from uihlm_device.conversation import Conversation
from uihlm_device.outages import lasting_session
from uihlm_device.outages.lasting_session import LastingSession
from uihlm_device.outages.outage import Backoff, LinkLostError, OnOutage, Outage
from uihlm_device.stream.session import Cost, Upload, Verdict
from uihlm_proto.errors import UnavailableError
from uihlm_proto.randomness import session_key
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.ledger import Ledger

PATIENCE_S = 0.02
# A tree of one node, and another one below it.
TREE = Upload(0, 3, payloads=[b"\5"], tokens=[5], parents=[-1])
MORE = Upload(0, 3, payloads=[b"\6"], tokens=[6], parents=[0], continues=1)


class BaseStation:
    """Streams that accept every draft while it is there, and fail while it is not."""

    def __init__(self) -> None:
        self.there, self.rounds = True, 0

    def next_round(self) -> int:
        self.rounds += 1
        return self.rounds


class FakeStream:
    max_context, timeout_s, reached = 64, 1.0, True

    def __init__(self, station: BaseStation) -> None:
        self._station = station
        self._asked: set[int] = set()

    def open(self, prefix_ids, key, again=False):
        number = self._station.next_round()
        self._asked.add(number)
        return number

    def ready(self, timeout_s=None):
        self._answer()
        return Cost()

    def upload(self, upload, round_number=None):
        number = self._station.next_round() if round_number is None else round_number
        self._asked.add(number)
        return number

    def arrived(self, round_number):
        assert round_number in self._asked, "another stream was asked this"
        return True

    def verdict(self, round_number, timeout_s=None):
        assert round_number in self._asked, "another stream was asked this"
        self._answer()
        return Verdict(1, None)

    def hang_up(self, dead=False):
        pass

    def close(self, timeout_s=None):
        pass

    def _answer(self):
        if not self._station.there:
            raise UnavailableError("the base station is gone")


def held(thing: object) -> int:
    """How many things are kept in the collections of a session and of what it is made of."""
    if isinstance(thing, (dict, set, list, tuple)):
        return len(thing) + sum(held(item) for item in (thing.values() if isinstance(thing, dict) else thing))
    if not type(thing).__module__.startswith("uihlm_device.outages"):
        return 0
    names = getattr(thing, "__slots__", None) or vars(thing)
    return sum(held(getattr(thing, name)) for name in names)


@pytest.mark.parametrize("asks", ["no round after a loss", "the round that was lost", "every round"])
def test_a_session_holds_no_more_after_many_outages_than_after_few(monkeypatch, asks):
    monkeypatch.setattr(lasting_session, "Backoff", functools.partial(Backoff, 1e-4, 1e-3))
    station, ledger = BaseStation(), Ledger()
    conversation = Conversation(session_key(0, 0), [1, 2, 3])
    outage = Outage(OnOutage.LOCAL, PATIENCE_S)
    session = LastingSession(conversation, lambda: FakeStream(station), ledger, SimulatedClock(), outage)
    conversation.opened(session, session.open(conversation.ids, conversation.key))
    session.ready()
    sizes = []
    for _ in range(12):
        first, second = session.upload(TREE), session.upload(MORE)
        # Whatever the last outage owed is charged to these two.
        sizes.append(held(session))
        station.there = False
        with pytest.raises(LinkLostError):
            session.verdict(first)
        asked = {"no round after a loss": [], "the round that was lost": [first], "every round": [second, first]}[asks]
        for lost in asked:
            assert session.arrived(lost) and session.verdict(lost) == Verdict(0, None, stale=True)
        station.there = True
        began_s = time.monotonic()
        while not session.reachable():
            assert time.monotonic() - began_s < 10.0
        # The new stream knows nothing of the tree: this is not sent at all.
        unsent = session.upload(MORE)
        assert unsent < 0 and session.arrived(unsent)
        if asks == "every round":
            assert session.verdict(unsent).stale
    assert sizes[0] > 0, "nothing was looked at"
    assert sizes[1:] == sizes[1:2] * 11
