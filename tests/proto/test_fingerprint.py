"""Equal vocabularies have one fingerprint; any other vocabulary has another."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from uihlm_proto.fingerprint import FINGERPRINT_BYTES, fingerprint

pieces = st.lists(st.text(max_size=4), max_size=8)


def test_golden_fingerprints():
    assert fingerprint([]) == hashlib.sha256(b"").digest()
    by_hand = b"\x01\x00\x00\x00a" + b"\x03\x00\x00\x00\xe2\x96\x81" + b"\x00\x00\x00\x00"
    assert fingerprint(["a", "▁", ""]) == hashlib.sha256(by_hand).digest()
    assert len(fingerprint(["a"])) == FINGERPRINT_BYTES == 32


def test_any_iterable_will_do():
    assert fingerprint(iter(["x", "y"])) == fingerprint(("x", "y"))


def test_a_lone_surrogate_has_a_fingerprint():
    assert fingerprint(["\ud800"]) != fingerprint(["\udc00"])


@settings(max_examples=50, deadline=None)
@given(pieces, pieces)
def test_fingerprints_are_equal_iff_the_vocabularies_are(a, b):
    assert (fingerprint(a) == fingerprint(b)) == (a == b)


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=6), st.integers(0, 6))
def test_the_border_between_pieces_counts(text, at):
    whole, cut = [text, ""], [text[:at], text[at:]]
    assert (fingerprint(whole) == fingerprint(cut)) == (whole == cut)


def test_the_order_of_ids_counts():
    assert fingerprint(["a", "b"]) != fingerprint(["b", "a"])
