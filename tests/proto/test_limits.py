"""The largest legal messages fit the limits, and the limits are not far above them."""

import numpy as np
import pytest

from uihlm_proto.codecs import CODECS, codec
from uihlm_proto.limits import MAX_DRAFTS, PROTOCOL_VERSION, max_request_bytes, max_response_bytes
from uihlm_proto.randomness import session_key
from uihlm_proto.v1 import verification_pb2 as pb

CASES = [(12, 64), (49_152, 8192), (128_256, 131_072)]
NUMBER = 2**32 - 1
ROUND = 2**32 - 1


def largest_upload(vocabulary_size, max_context, payload_bytes):
    payload = bytes(payload_bytes)
    return pb.VerifyRequest(
        upload=pb.Upload(
            round=ROUND,
            epoch=NUMBER,
            first_position=NUMBER,
            skipped_ids=[vocabulary_size - 1] * (max_context - MAX_DRAFTS),
            assumed_id=vocabulary_size - 1,
            audit=bytes(max_context - MAX_DRAFTS),
            drafts=[pb.Draft(payload=payload)] * MAX_DRAFTS,
            parents=[-1] * MAX_DRAFTS,
        )
    )


@pytest.mark.parametrize(("vocabulary_size", "max_context"), CASES)
@pytest.mark.parametrize("name", CODECS)
def test_the_largest_upload_fits(name, vocabulary_size, max_context):
    payload_bytes = codec(name, vocabulary_size).max_payload_bytes
    size = largest_upload(vocabulary_size, max_context, payload_bytes).ByteSize()
    assert size <= max_request_bytes(vocabulary_size, max_context)


@pytest.mark.parametrize(("vocabulary_size", "max_context"), CASES)
def test_the_largest_open_fits(vocabulary_size, max_context):
    request = pb.VerifyRequest(
        open=pb.Open(
            round=ROUND,
            protocol_version=PROTOCOL_VERSION,
            tokenizer_fingerprint=bytes(32),
            vocabulary_size=vocabulary_size,
            prefix_ids=[vocabulary_size - 1] * max_context,
            sampling=pb.Sampling(temperature=0.6, top_k=NUMBER, top_p=0.9),
            codec="dense32",
            session_key=session_key(0, 0),
        )
    )
    assert request.ByteSize() <= max_request_bytes(vocabulary_size, max_context)


@pytest.mark.parametrize(("vocabulary_size", "max_context"), CASES)
def test_the_limit_is_not_far_above_the_largest_upload(vocabulary_size, max_context):
    widest = codec("dense32", vocabulary_size).max_payload_bytes
    largest = largest_upload(vocabulary_size, max_context, widest).ByteSize()
    assert max_request_bytes(vocabulary_size, max_context) < 1.5 * largest + 8192


@pytest.mark.parametrize(("vocabulary_size", "max_context"), CASES)
def test_the_largest_verdict_fits(vocabulary_size, max_context):
    each = np.full(MAX_DRAFTS, 0.5)
    response = pb.VerifyResponse(
        verdict=pb.Verdict(
            round=ROUND,
            accepted=MAX_DRAFTS,
            token_id=NUMBER,
            y_d=each,
            reject_probability=each,
            total_variation=each,
            skipped_reject_probability=np.full(max_context, 0.5),
            cost=pb.Cost(forward_s=1.0, queue_s=1.0, forwards=NUMBER, positions=NUMBER),
        )
    )
    assert response.ByteSize() <= max_response_bytes(max_context)


@pytest.mark.parametrize("max_context", [64, 8192, 131_072])
def test_the_largest_score_fits(max_context):
    response = pb.ScoreResponse(log_probabilities=np.full(max_context - 1, -1.5))
    assert response.ByteSize() <= max_response_bytes(max_context)
