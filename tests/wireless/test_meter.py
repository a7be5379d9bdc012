"""The three counts of a message, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_proto.codecs import codec
from uihlm_proto.v1.verification_pb2 import Draft, Upload
from uihlm_wireless.meter import upload_bit, upload_payload_bit, wire_bytes

V = 32000


@pytest.mark.parametrize(
    ("size", "on_wire"),
    [
        (0, 5 + 9),
        (100, 105 + 9),
        (16384 - 5, 16384 + 9),
        (16384 - 4, 16385 + 18),
        (128_002, 128_007 + 8 * 9),
    ],
)
def test_wire_bytes_count_prefix_and_frames(size, on_wire):
    assert wire_bytes(size) == on_wire


@given(st.integers(0, 10**6))
def test_a_longer_message_is_never_lighter(size):
    assert wire_bytes(size) < wire_bytes(size + 1)


def test_payload_is_drafts_skipped_ids_and_audit():
    upload = Upload(skipped_ids=[1, 2, 3], audit=b"abc", drafts=[Draft(payload=b"12"), Draft(payload=b"3456")])
    assert upload_payload_bit(upload, V) == 6 * 8 + 3 * 15 + 3 * 8


def test_context_guess_and_tree_are_no_payload():
    upload = Upload(context_ids=[1, 2], assumed_id=5, parents=[-1], first_position=9, generate=4, epoch=3)
    assert upload_payload_bit(upload, V) == 0


@pytest.mark.parametrize(("name", "b_prob", "bit"), [("dense32", None, 32), ("dense16", None, 16), ("dense32", 16, 16)])
def test_dense_model_bits_are_the_papers_whatever_else_rides_along(name, b_prob, bit):
    dense = codec(name, V)
    upload = Upload(
        skipped_ids=[1], audit=b"x", drafts=[Draft(payload=bytes(dense.max_payload_bytes)) for _ in range(2)]
    )
    assert upload_bit(upload, dense, b_prob)[0] == 2 * V * bit
    assert upload_bit(Upload(skipped_ids=[1], generate=3), dense, b_prob)[0] == 0


def test_coupled_model_bits_are_its_payload():
    upload = Upload(skipped_ids=[1, 2], drafts=[Draft(payload=b"12")])
    assert upload_bit(upload, codec("coupled", V), 32)[0] == 2 * 15 + 16


@pytest.mark.parametrize("name", ["lattice", "lattice:tv=0.05,alpha=0.1"])
def test_lattice_model_bits_are_its_payload_whatever_is_billed_a_probability(name):
    upload = Upload(skipped_ids=[1, 2], drafts=[Draft(payload=bytes(33)), Draft(payload=bytes(3))])
    assert upload_bit(upload, codec(name, V), 32)[0] == 2 * 15 + 36 * 8
    assert upload_bit(Upload(skipped_ids=[7], generate=3), codec(name, V))[0] == 15
