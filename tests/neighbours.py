"""A device in the middle of an answer, beside whom others send what is wrong."""

import contextlib
import re

import grpc

from fakes import Bench, FakeDrafter, FakeEngine, contextual
from stations import RawClient, eventually, standing
from uihlm_device.conversation import Conversation
from uihlm_proto.randomness import session_key

V = 12
ENGINE_LOGITS = contextual(V, salt=1)
DRAFTER_LOGITS = contextual(V, salt=2)
CODE = grpc.StatusCode


class Neighbour:
    """A real device in the middle of an answer."""

    def __init__(self, address, policy="hlm"):
        self.bench = Bench(address, FakeDrafter(DRAFTER_LOGITS, V))
        self.conversation = Conversation(session_key(9, 9))
        self.conversation.extend([4, 5, 6])
        self._answer = self.bench.decoder(policy, max_tokens=16).answer(self.conversation)
        self.tokens = []

    def write(self, n):
        self.tokens += [next(self._answer).token for _ in range(n)]

    def finish(self):
        self.tokens += [record.token for record in self._answer]

    def close(self):
        self.conversation.end_session()
        self.bench.close()


def undisturbed_tokens():
    """What the neighbour writes when it is alone."""
    with standing(FakeEngine(ENGINE_LOGITS, V)) as station, contextlib.closing(Neighbour(station.address)) as neighbour:
        neighbour.finish()
    assert len(neighbour.tokens) == 16
    return neighbour.tokens


@contextlib.contextmanager
def beside_a_neighbour(undisturbed, engine=None, max_sessions=16):
    """Yield (station, engine, raw client) while a neighbour is mid-answer; then check that it came to no harm."""
    engine = engine or FakeEngine(ENGINE_LOGITS, V)
    with standing(engine, max_sessions) as station, RawClient(station.address) as raw:
        with contextlib.closing(Neighbour(station.address)) as neighbour:
            neighbour.write(5)
            own = set(engine.sessions)
            assert len(own) == station.sessions == 1
            yield station, engine, raw
            assert eventually(lambda: station.sessions == 1), "the bad session still counts"
            assert eventually(lambda: set(engine.sessions) == own), "the engine still holds the bad session"
            neighbour.finish()
            assert neighbour.tokens == undisturbed
        assert eventually(lambda: station.sessions == 0 and not engine.sessions)


def assert_refused(stream, code, sentence):
    got, details = stream.refusal()
    assert got is code, details
    assert re.search(sentence, details), details
