"""Where tokens begin in a text that is shown as it comes."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_device.endpoint.pieces import starts


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"Gr\xc3", b"\xbc\xc3\x9fe", b"!"], [0, 2, 5]),
        ([b"\xff", b"a", b"", b"c"], [0, 1, 2, 2]),
        ([b"\xff", b"\xff", b"END"], [0, 1, 2]),
    ],
)
def test_characters_are_counted_as_they_are_shown(pieces, expected):
    assert list(starts(pieces)) == expected


@given(st.lists(st.binary(max_size=4)))
def test_a_token_begins_where_what_was_shown_before_it_ends(pieces):
    shown, characters = "", codecs.getincrementaldecoder("utf-8")("replace")
    for piece, start in zip(pieces, starts(pieces), strict=True):
        assert start == len(shown)
        shown += characters.decode(piece)
