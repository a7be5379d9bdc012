"""How a device gets to a base station: the token stays secret, and where it cannot, it is not sent."""

import pickle

import grpc
import pytest

from fakes import FakeEngine, contextual, vocabulary
from stations import standing
from uihlm_basestation.trust.settings import Trust
from uihlm_device.stream.access import PLAIN, Access
from uihlm_device.stream.client import Connection
from uihlm_device.stream.contract import Contract
from uihlm_device.stream.statuses import domain_error
from uihlm_proto.bearer import Token
from uihlm_proto.codecs import codec
from uihlm_proto.errors import AccessError, ExhaustedError, UihlmError, UnavailableError
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_proto.token_set import TokenSet

V = 12
CONTRACT = Contract(vocabulary(V), Sampling(), codec("dense32", V))
TOKEN, OTHER = Token("t" * 40), Token("o" * 40)


def opened(address, access):
    with Connection(str(address), V, timeout_s=10.0, access=access) as connection:
        session = connection.session(CONTRACT)
        session.open([1], session_key(0, 0))
        try:
            return session.ready(), connection.score(CONTRACT, [1], [2])
        finally:
            session.close()


def test_the_token_goes_with_sessions_and_scores():
    trust = Trust(tokens=TokenSet([TOKEN]))
    with standing(FakeEngine(contextual(V, 1), V), trust=trust) as station:
        cost, scores = opened(station.address, Access(token=TOKEN))
        assert cost.positions == 1 and len(scores) == 1
        with pytest.raises(AccessError, match="does not know the bearer token"):
            opened(station.address, Access(token=OTHER))
        with pytest.raises(AccessError, match="asks for a bearer token: give it with --token-file"):
            opened(station.address, PLAIN)


def test_the_application_goes_with_the_token():
    assert PLAIN.metadata == ()
    assert Access(application="cell").metadata == (("application", "cell"),)
    assert dict(Access(token=TOKEN, application="cell").metadata).keys() == {"application", "authorization"}


@pytest.mark.parametrize("target", ["192.0.2.7:50051", "bs.example:50051", "dns:///bs.example:50051", "0.0.0.0:1"])
def test_the_token_does_not_go_unencrypted_to_another_machine(target):
    with pytest.raises(AccessError, match=f"the token would go to {target} unencrypted.* --insecure") as raised:
        Connection(target, V, access=Access(token=TOKEN))
    assert TOKEN.secret not in str(raised.value)
    for access in (Access(token=TOKEN, insecure=True), Access(token=TOKEN, tls=True), PLAIN):
        Connection(target, V, access=access).close()


def test_a_refused_connection_leaves_no_thread():
    import threading

    before = threading.active_count()
    with pytest.raises(AccessError):
        Connection("192.0.2.7:1", V, access=Access(token=TOKEN))
    assert threading.active_count() == before


def test_access_hides_the_token_and_crosses_to_a_worker():
    access = Access(tls=True, token=TOKEN)
    assert TOKEN.secret not in repr(access) + str(access)
    assert pickle.loads(pickle.dumps(access)) == access


class Said(grpc.RpcError):
    """A status as a base station may choose it."""

    def __init__(self, code, details):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return ()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_what_a_base_station_says_cannot_act_on_the_terminal_nor_fill_it(code):
    error = domain_error(Said(code, "\x1b[2J\x1b]0;owned\x07\r\nbell\x9b31m" + "x" * 100_000), "bs:1")
    assert isinstance(error, UihlmError)
    assert str(error).isprintable() and len(str(error)) < 2000


def test_unauthenticated_is_no_outage():
    assert type(domain_error(Said(grpc.StatusCode.UNAUTHENTICATED, "no"), "bs:1")) is AccessError
    assert type(domain_error(Said(grpc.StatusCode.RESOURCE_EXHAUSTED, "no"), "bs:1")) is ExhaustedError
    assert type(domain_error(Said(grpc.StatusCode.UNAVAILABLE, "no"), "bs:1")) is UnavailableError
