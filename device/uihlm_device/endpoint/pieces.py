"""Where the tokens of a text begin: one may end in half a character, or hold bytes that are none."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator


def starts(pieces: Iterable[bytes]) -> Iterator[int]:
    """Yield how many characters are shown before each token's bytes; one that ends a half character counts from where that
    began, and what is no UTF-8 as the U+FFFD in its place.
    """
    characters = codecs.getincrementaldecoder("utf-8")("replace")
    shown = 0
    for piece in pieces:
        yield shown
        shown += len(characters.decode(piece))
