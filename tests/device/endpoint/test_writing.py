"""What of an answer is scored: the tokens that are shown, at least in part."""

from __future__ import annotations

import codecs
from types import SimpleNamespace

import pytest

from uihlm_device.endpoint.stop_strings import StopStrings
from uihlm_device.endpoint.writing import Writing


@pytest.mark.parametrize(
    ("pieces", "scored"),
    [
        ([b"up", b"on", b"END"], 2),
        ([b"\xff", b"\xff", b"END"], 2),
        ([b"\xe2\x82", b"\xac", b"END"], 2),
        ([b"a", b"bEND"], 2),
    ],
)
def test_no_token_of_a_stop_text_is_scored(pieces, scored):
    characters, stops, shown = codecs.getincrementaldecoder("utf-8")("replace"), StopStrings(("END",)), 0
    for piece in pieces:
        shown += len(stops.feed(characters.decode(piece)))
    assert stops.hit
    records = [
        SimpleNamespace(stop=False, token=at, position=2 + at, origin=None, x_d=None, y_d=None)
        for at in range(len(pieces))
    ]
    writing = SimpleNamespace(
        parts=SimpleNamespace(
            tokenizer=SimpleNamespace(piece=pieces.__getitem__), score=lambda _, ids: [-1.0] * len(ids)
        )
    )
    conversation = SimpleNamespace(answer_start=2, ids=[0, 0, *range(len(pieces))])
    assert [score.piece for score in Writing._scores(writing, conversation, records, shown)] == pieces[:scored]
