"""One client can neither read nor disturb another's session: a session is a stream, and no number in a message names one."""

import grpc
import pytest

from fakes import FakeEngine, contextual
from stations import RawClient, eventually, one_hot_payload, opening, standing
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb

V = 12
KEY = session_key(4, 2)
PREFIX = [4, 5, 6]
ROUNDS = 12


class Talk:
    """One client's session, a round at a time; it keeps what it was told, without what it cost."""

    def __init__(self, engine, raw, first_round=1, key=KEY, prefix=PREFIX, drafts=0):
        self.told = []
        self._engine = engine
        self._drafts = drafts
        self._round = first_round
        self._epoch, self._length = 0, len(prefix)
        self.stream = raw.opened(engine, round=first_round, session_key=key, prefix_ids=prefix)

    def round(self):
        """One draft, always the same token, so that corrections and good drafts both come."""
        self._round += 1
        self._drafts += 1
        draft = pb.Draft(payload=one_hot_payload(self._drafts % V, V))
        request = pb.Upload(round=self._round, epoch=self._epoch, first_position=self._length, drafts=[draft])
        verdict = self.stream.ask(pb.VerifyRequest(upload=request)).verdict
        self._epoch += verdict.accepted == 0
        self._length += 1
        verdict.ClearField("cost")
        self.told.append(verdict)


def alone(**settings):
    engine = FakeEngine(contextual(V, salt=1), V)
    with standing(engine) as station, RawClient(station.address) as raw:
        talk = Talk(engine, raw, **settings)
        for _ in range(ROUNDS):
            talk.round()
        return talk.told


@pytest.mark.parametrize(
    "double",
    [{}, {"drafts": 5}, {"prefix": [1, 2]}, {"key": session_key(9, 9)}, {"first_round": 7}],
    ids=[
        "in everything",
        "but other drafts",
        "of the key and rounds",
        "of the prefix and rounds",
        "of the key, ahead in rounds",
    ],
)
def test_a_double_of_a_session_changes_nothing_for_it_and_learns_nothing_from_it(double):
    victim_alone, double_alone = alone(), alone(**double)
    engine = FakeEngine(contextual(V, salt=1), V)
    with standing(engine) as station, RawClient(station.address) as raw, RawClient(station.address) as other:
        victim, attacker = Talk(engine, raw), Talk(engine, other, **double)
        for _ in range(ROUNDS):
            attacker.round()
            victim.round()
    assert victim.told == victim_alone
    assert attacker.told == double_alone


def test_rounds_epochs_and_positions_of_another_session_open_nothing():
    expected = alone()
    engine = FakeEngine(contextual(V, salt=1), V)
    with standing(engine) as station, RawClient(station.address) as raw, RawClient(station.address) as other:
        victim = Talk(engine, raw)
        for step in range(ROUNDS):
            victim.round()
            guess = pb.Upload(round=step + 1, epoch=step % 3, first_position=len(PREFIX) + step, generate=1)
            stream = other.stream()
            stream.send(pb.VerifyRequest(upload=guess))
            assert stream.refusal() == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "the session is new: Open comes first",
            )
        assert victim.told == expected


def test_however_a_session_ends_the_others_go_on():
    expected = alone()
    engine = FakeEngine(contextual(V, salt=1), V)
    with standing(engine) as station, RawClient(station.address) as raw, RawClient(station.address) as other:
        victim = Talk(engine, raw)
        for step in range(ROUNDS):
            attacker = Talk(engine, other)
            if step % 3 == 0:
                attacker.stream.send(opening(engine))
                attacker.stream.refusal()
            elif step % 3 == 1:
                attacker.stream.call.cancel()
            attacker.stream.half_close()
            victim.round()
        assert victim.told == expected
        assert eventually(lambda: station.sessions == 1 and len(engine.sessions) == 1)


def test_no_message_of_a_device_can_name_a_session():
    """`round` is echoed, `session_key` seeds draws; whoever adds a field that names a session must think of this page."""
    fields = {field.name for message in (pb.Open, pb.Upload) for field in message.DESCRIPTOR.fields}
    assert {name for name in fields if "session" in name or name.endswith(("_number", "handle", "token"))} == {
        "session_key"
    }
