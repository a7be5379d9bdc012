"""Whose cache stands where: sessions in the few rows or sequences of an engine, the one not used for longest makes room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection


class Slots:
    """Sessions in numbered slots.

    Attributes:
        cached: positions in each session's slot.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.cached: dict[int, int] = {}
        self._slots: OrderedDict[int, int] = OrderedDict()  # the one used last stands last
        self._free = list(range(count))
        self._held: set[int] = set()

    def __contains__(self, session: object) -> bool:
        """Whether the session has a slot."""
        return session in self._slots

    def __getitem__(self, session: int) -> int:
        """Return the session's slot."""
        return self._slots[session]

    def get(self, session: int) -> int | None:
        """Return the session's slot, None if it has none."""
        return self._slots.get(session)

    @property
    def sessions(self) -> list[int]:
        """Those with a slot, the one used last at the end."""
        return list(self._slots)

    def crowded_out(self, session: int, wanted: Collection[int]) -> int | None:
        """Return who must go before `take(session)`, never one of `wanted`; None if there is a slot."""
        return None if session in self._slots or self._free else self.idle(wanted)[0]

    def take(self, session: int) -> int:
        """Return the session's slot, a free one if it has none."""
        if session not in self._slots:
            self._slots[session] = self._free.pop(0)
            self.cached[session] = 0
        self._slots.move_to_end(session)
        return self._slots[session]

    def idle(self, wanted: Collection[int]) -> list[int]:
        """Return the sessions not in `wanted`, the one not used for longest first, those on hold behind all others."""
        idle = [session for session in self._slots if session not in wanted]
        return sorted(idle, key=self._held.__contains__) if self._held else idle

    def hold(self, session: int, hold: bool) -> None:
        """Put a session on hold, or off it: the rest of its request is on the way."""
        if hold and session in self._slots:
            self._held.add(session)
        else:
            self._held.discard(session)

    def release(self, session: int) -> None:
        """Give a session's slot back; its cells are the caller's to clear."""
        self._free.append(self._slots.pop(session))
        self._free.sort()
        self._held.discard(session)
        del self.cached[session]
