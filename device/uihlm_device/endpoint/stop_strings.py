"""Texts that end an answer, found across the borders of tokens and never shown.

    release  the longest part that can no longer become the start of a stop text
    hold     the rest, until more has come

The stop text that is complete first ends the answer, of two that are complete at one character the longer one: what is
shown then does not depend on how the text was cut into tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Watches one answer.

    Attributes:
        hit: whether a stop text has come.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Watch for these; none of them is empty."""
        self._stops = tuple(sorted(set(stops), key=len, reverse=True))
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """Take what was written next and return what may be shown; nothing once a stop text has come."""
        if self.hit:
            return ""
        if not self._stops:
            return text
        held = self._held + text
        # What was held before held no whole stop text.
        for end in range(len(self._held) + 1, len(held) + 1):
            for stop in self._stops:
                if held.endswith(stop, 0, end):
                    self.hit, self._held = True, ""
                    return held[: end - len(stop)]
        keep = self._suspects(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def end(self) -> str:
        """Return what is still held, when nothing more will come."""
        rest, self._held = self._held, ""
        return rest

    def _suspects(self, text: str) -> int:
        """Return how many of the last characters may be the start of a stop text."""
        longest = min(len(text), len(self._stops[0]) - 1)
        return next(
            (n for n in range(longest, 0, -1) if any(stop.startswith(text[len(text) - n :]) for stop in self._stops)), 0
        )
