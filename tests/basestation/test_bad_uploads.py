"""Bad uploads are refused with a sentence that helps, and one of another epoch is answered as stale."""

import math

import numpy as np
import pytest

from neighbours import CODE, ENGINE_LOGITS, V, assert_refused, beside_a_neighbour, undisturbed_tokens
from stations import one_hot_payload, upload
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_proto.v1 import verification_pb2 as pb


@pytest.fixture(scope="module")
def undisturbed():
    return undisturbed_tokens()


def dense(x, token=0, dtype="<f4"):
    return {"drafts": [pb.Draft(payload=bytes([token]) + np.asarray(x, dtype).tobytes())]}


def flat(**changes):
    """Twelve twelfths, but for the changes."""
    x = np.full(V, 1 / V)
    for index, value in changes.items():
        x[int(index[1:])] = value
    return x


GOOD = one_hot_payload(0, V)
BAD_UPLOADS = {
    "NaN in the distribution": (dense(flat(_3=math.nan)), "value that is not finite"),
    "infinity in the distribution": (dense(flat(_3=math.inf)), "value that is not finite"),
    "negative in the distribution": (dense(flat(_3=-1 / V, _4=3 / V)), "has a negative value"),
    "too little mass": (dense(flat() * 0.9), "sums to 0.9, not to 1 within 0.0001"),
    "too much mass": (dense(flat() * 1.001), "sums to 1.001, not to 1 within 0.0001"),
    "no mass": (dense(flat() * 0), "sums to 0, not to 1"),
    "a draft of probability 0": (dense(np.eye(V)[5]), "draft 0 has probability 0 in its own distribution"),
    "draft id out of range": (dense(flat(), token=12), "draft id 12 is outside the vocabulary of 12"),
    "empty payload": ({"drafts": [pb.Draft()]}, "has 49 bytes, got 0"),
    "truncated payload": ({"drafts": [pb.Draft(payload=GOOD[:-1])]}, "has 49 bytes, got 48"),
    "payload too long": ({"drafts": [pb.Draft(payload=GOOD + b"\0")]}, "has 49 bytes, got 50"),
    "payload of another codec": (dense(flat(), dtype="<f2"), "has 49 bytes, got 25"),
    "bad draft within a chain": (
        {"drafts": [pb.Draft(payload=GOOD), pb.Draft(payload=GOOD[:-4]), pb.Draft(payload=GOOD)]},
        "has 49 bytes, got 45",
    ),
    "skipped id out of range": ({"skipped_ids": [1, 99], "first_position": 5}, "token id 99 is outside"),
    "context id out of range": ({"context_ids": [12], "first_position": 4}, "token id 12 is outside"),
    "drafts and generate": ({"generate": 4}, "either drafts or generate > 0, and not both"),
    "neither drafts nor generate": ({"drafts": []}, "either drafts or generate > 0, and not both"),
    "position too low": ({"first_position": 2}, "first_position is 2, but the ids sent so far end at 3"),
    "position too high": ({"first_position": 4}, "first_position is 4, but the ids sent so far end at 3"),
    "position ahead of the skipped ids": (
        {"skipped_ids": [1]},
        "first_position is 3, but the ids sent so far end at 4",
    ),
    "future epoch": ({"epoch": 1}, "epoch 1 is ahead of this session's 0 corrections"),
    "too many drafts": (
        {"drafts": [pb.Draft(payload=GOOD)] * (MAX_DRAFTS + 1)},
        f"65 drafts in one upload: at most {MAX_DRAFTS}",
    ),
    "skipped ids beyond the context": ({"skipped_ids": [1] * 4093, "first_position": 4096}, "4097 .* holds 4096"),
    "a tree with a distribution": ({"parents": [-1]}, "open the session with the codec coupled, not dense32"),
    "an audit of tokens that were not sent": ({"audit": b"\1"}, "audit holds 1 bytes for 0 skipped ids"),
    "an audit of too few tokens": (
        {"audit": b"\1", "skipped_ids": [1, 2], "first_position": 5},
        "audit holds 1 bytes for 2 skipped ids",
    ),
    "an audit alone of too few tokens": (
        {"audit": b"\1", "skipped_ids": [1, 2], "first_position": 5, "drafts": []},
        "audit holds 1 bytes for 2 skipped ids",
    ),
    "an audit with generate": (
        {"audit": b"\1", "skipped_ids": [1], "first_position": 4, "drafts": [], "generate": 2},
        "not with generate, nor with a tree",
    ),
    "an audit of a tree": (
        {"audit": b"\1", "skipped_ids": [1], "first_position": 4, "parents": [-1]},
        "not with generate, nor with a tree",
    ),
    "a bonus that never came": ({"assumed_id": 3}, "no bonus token came before this upload"),
}


@pytest.mark.parametrize("kind", BAD_UPLOADS)
def test_a_bad_upload_is_refused(kind, undisturbed):
    changes, sentence = BAD_UPLOADS[kind]
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine)
        stream.send(upload(engine, **changes))
        assert_refused(stream, CODE.INVALID_ARGUMENT, sentence)


@pytest.mark.parametrize(
    ("codec", "payload", "sentence"),
    [
        ("dense16", b"\0" + np.full(V, math.nan, "<f2").tobytes(), "not finite"),
        ("dense16", b"\0" + np.full(V, 0.07, "<f2").tobytes(), "sums to 0.84.*, not to 1 within 0.01"),
        ("dense16", GOOD, "has 25 bytes, got 49"),
        ("coupled", b"", "a coupled draft has 1 bytes, got 0"),
        ("coupled", b"\0\0", "a coupled draft has 1 bytes, got 2"),
        ("coupled", b"\x0c", "draft id 12 is outside the vocabulary of 12"),
    ],
)
def test_a_bad_payload_of_any_codec_is_refused(codec, payload, sentence, undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine, codec=codec)
        stream.send(upload(engine, drafts=[pb.Draft(payload=payload)]))
        assert_refused(stream, CODE.INVALID_ARGUMENT, sentence)


def least_likely(engine_ids):
    return int(np.argmin(ENGINE_LOGITS(engine_ids)))


def drafted(token, **changes):
    return {"drafts": [pb.Draft(payload=one_hot_payload(token, V))], **changes}


def test_a_stale_epoch_is_answered_as_stale_and_the_session_goes_on(undisturbed):
    with beside_a_neighbour(undisturbed) as (_, engine, raw):
        stream = raw.opened(engine)
        ids = [1, 2, 3]
        corrected = stream.ask(upload(engine, **drafted(least_likely(ids)))).verdict
        assert (corrected.accepted, corrected.HasField("token_id"), corrected.stale) == (0, True, False)
        ids.append(corrected.token_id)
        before = [list(held) for held in engine.sessions.values()]
        # Built before the device knew of the correction: another epoch, positions and even a draft that make no sense now.
        stale = stream.ask(upload(engine, round=3, first_position=99, drafts=[pb.Draft(payload=b"?")])).verdict
        assert (stale.round, stale.stale, stale.accepted, list(stale.y_d)) == (3, True, 0, [])
        assert not stale.HasField("token_id")
        assert (stale.cost.forwards, stale.cost.positions) == (0, 0)
        assert [list(held) for held in engine.sessions.values()] == before
        good = stream.ask(upload(engine, round=4, epoch=1, first_position=4, **drafted(least_likely(ids)))).verdict
        assert (good.round, good.stale, good.accepted) == (4, False, 0)
        p = np.exp(ENGINE_LOGITS(ids).astype(float))
        assert good.y_d[0] == pytest.approx((p / p.sum()).min(), rel=1e-5)
        stream.half_close()
        assert stream.refusal()[0] is CODE.OK
