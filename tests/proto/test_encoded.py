"""The bytes of a request are made once for who weighs it and who sends it, and are always its own."""

import threading

import pytest

from uihlm_proto import encoded
from uihlm_proto.encoded import bytes_of, size_of
from uihlm_proto.v1 import verification_pb2 as pb


def request(round_number):
    return pb.VerifyRequest(upload=pb.Upload(round=round_number, drafts=[pb.Draft(payload=bytes(3 * round_number))]))


def test_the_bytes_that_were_weighed_are_those_that_are_sent(monkeypatch):
    own = request(7)
    assert size_of(own) == own.ByteSize()
    _, made = encoded._HERE.kept
    assert bytes_of(own) is made and made == own.SerializeToString()
    # Nothing of it is kept: it may be large, and the next one long in coming.
    assert encoded._HERE.kept is None
    assert bytes_of(own) == made


@pytest.mark.parametrize("between", [request(2), None], ids=["another was weighed between", "never weighed"])
def test_a_request_is_never_sent_as_another(between):
    size_of(request(9))
    own = request(1)
    if between is not None:
        size_of(own)
        size_of(between)
    assert pb.VerifyRequest.FromString(bytes_of(own)) == own


def test_threads_keep_what_they_weighed_apart():
    own, other = request(3), request(4)
    size_of(own)
    thread = threading.Thread(target=lambda: size_of(other))
    thread.start()
    thread.join()
    assert encoded._HERE.kept[0] is own and bytes_of(own) == own.SerializeToString()
