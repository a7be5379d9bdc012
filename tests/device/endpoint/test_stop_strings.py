"""Stop texts: what is shown does not depend on where the text was cut, and no part of a stop text is shown."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_device.endpoint.stop_strings import StopStrings

TEXTS = st.text("abc", max_size=24)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=4)


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    watch = StopStrings(stops)
    text = "".join(watch.feed(piece) for piece in pieces)
    return text + watch.end(), watch.hit


def by_definition(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the stop text that is complete first, the longest of those."""
    for end in range(1, len(text) + 1):
        complete = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(complete)], True
    return text, False


@given(TEXTS, STOPS, st.lists(st.integers(0, 24), max_size=8))
def test_any_cut_of_the_text_shows_what_the_definition_says(text, stops, cuts):
    borders = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    assert shown(pieces, stops) == by_definition(text, stops)


@given(TEXTS, STOPS)
def test_what_may_still_become_a_stop_text_is_held_and_nothing_else(text, stops):
    watch = StopStrings(stops)
    out = "".join(watch.feed(character) for character in text)
    if not watch.hit:
        held = text[len(out) :]
        assert out + held == text
        assert not held or any(stop.startswith(held) for stop in stops)
        # The longest such end is held: one character more would be none.
        assert not any(stop.startswith(text[len(out) - 1 :]) for stop in stops if out)


@pytest.mark.parametrize(
    "pieces, stops, expected",
    [
        (["Hel", "lo\n", "\nUser: x"], ["\n\nUser:"], "Hello"),
        (["a<", "/s", ">b"], ["</s>"], "a"),
        (["a</", "x"], ["</s>"], "a</x"),
        (["aab", "aac"], ["aac"], "aab"),
        (["xabcy"], ["b", "abcd"], "xa"),
    ],
)
def test_examples(pieces, stops, expected):
    assert shown(pieces, stops)[0] == expected


def test_nothing_is_shown_after_a_stop_text():
    watch = StopStrings(["."])
    assert [watch.feed(piece) for piece in ("one. two", " three")] == ["one", ""]
    assert watch.end() == ""
