"""Codec bytes that are cut, flipped or made up get a verdict or INVALID_ARGUMENT from the real server, and nothing else."""

import grpc
import numpy as np
import pytest

from fakes import FakeEngine, contextual
from stations import RawClient, standing, upload
from uihlm_proto.codecs import codec
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling
from uihlm_proto.v1 import verification_pb2 as pb

V = 300
CODE = grpc.StatusCode
NAMES = ["dense32", "dense16", "coupled", "lattice", "lattice:k=4,l=16", "lattice:tv=0.05", "lattice:tv=0.1,alpha=0.2"]


@pytest.fixture(scope="module")
def served():
    engine = FakeEngine(contextual(V, salt=1), V)
    with standing(engine, max_sessions=4) as station, RawClient(station.address) as raw:
        yield engine, raw


def good_payload(name):
    x = Sampling().distribution(contextual(V, salt=2)([1, 2, 3]))
    return codec(name, V).draft(x, session_key(0, 0), 3).encode()


def answer(served, name, *payloads):
    """The status of a stream that uploads these drafts, its sentence, and the verdict if there is one."""
    engine, raw = served
    stream = raw.opened(engine, codec=name)
    stream.send(upload(engine, drafts=[pb.Draft(payload=payload) for payload in payloads]))
    verdict = None
    try:
        verdict = stream.receive().verdict
    except grpc.RpcError:
        return stream.call.code(), stream.call.details(), verdict
    stream.half_close()
    code, details = stream.refusal()
    return code, details, verdict


@pytest.mark.parametrize("name", NAMES)
def test_a_good_draft_gets_a_verdict(served, name):
    code, details, verdict = answer(served, name, good_payload(name))
    assert (code, verdict.round) == (CODE.OK, 2), details


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_draft_is_refused_wherever_it_is_cut(served, name):
    good = good_payload(name)
    for length in {0, 1, len(good) // 2, len(good) - 1} - {len(good)}:
        code, details, _ = answer(served, name, good[:length])
        assert code is CODE.INVALID_ARGUMENT, details
        assert f"bytes, got {length}" in details
    code, details, _ = answer(served, name, good, good[:-1], good)
    assert code is CODE.INVALID_ARGUMENT, details


@pytest.mark.parametrize("name", NAMES)
def test_flipped_and_made_up_bytes_are_a_draft_or_refused(served, name):
    rng = np.random.default_rng(4)
    good = np.frombuffer(good_payload(name), np.uint8)
    codes = []
    for case in range(24):
        if case % 2:
            wrong = rng.integers(0, 256, good.size, dtype=np.uint8)
        else:
            wrong = good.copy()
            wrong[rng.integers(good.size)] ^= np.uint8(1 << rng.integers(8))
        code, details, verdict = answer(served, name, wrong.tobytes())
        assert code in (CODE.OK, CODE.INVALID_ARGUMENT), details
        assert (verdict is not None) == (code is CODE.OK)
        codes.append(code)
    assert CODE.INVALID_ARGUMENT in codes
