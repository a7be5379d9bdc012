"""What an engine remembers of its sessions beside their caches: the ids that stand and the tree that awaits its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.trees import check_path
from uihlm_proto.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class History:
    """One session's ids.

    Attributes:
        ids: those that stand.
        tree_ids: nodes run after them, of which a path may yet stand.
        parents: of those nodes.
    """

    ids: list[int] = field(default_factory=list)
    tree_ids: Sequence[int] = ()
    parents: Sequence[int] = ()


_EMPTY = History()


class Histories:
    """The history of every session of an engine."""

    def __init__(self) -> None:
        self._sessions: dict[int, History] = {}

    def __getitem__(self, session: int) -> History:
        """Return a session's history; empty for a new one."""
        return self._sessions.get(session, _EMPTY)

    def check(self, work: Sequence[Work], max_context: int, vocabulary_size: int) -> None:
        """Refuse a forward that any part of `work` spoils.

        Raises:
            InvalidRequestError: two parts name one session, a path the session's last tree does not have, or what
                `Work.check` refuses.
        """
        sessions = {part.session for part in work}
        if len(sessions) < len(work):
            raise InvalidRequestError(f"{len(work)} parts name only {len(sessions)} sessions: one part each")
        for part in work:
            history = self[part.session]
            check_path(part.path, history.parents)
            part.check(len(history.ids) + len(part.path), max_context, vocabulary_size)
            end = part.keep_len + len(part.new_ids)
            if part.again and list(part.new_ids) != history.ids[part.keep_len : end]:
                raise InvalidRequestError(f"session {part.session} does not hold the ids that are to be run again")

    def kept(self, part: Work) -> list[int]:
        """Return the `keep_len` ids that stand before the part's new ones."""
        history = self[part.session]
        return [*history.ids, *(history.tree_ids[node] for node in part.path)][: part.keep_len]

    def missing(self, part: Work, cached: int) -> Work | None:
        """Return what must run `again` before a part where the session's cache holds `cached` positions; None if nothing.

        The nodes of the part's path are left out: they are few, and run with the part.
        """
        if cached >= part.keep_len:
            return None
        ids = self[part.session].ids[cached : part.keep_len]
        return Work(part.session, cached, ids, 0, again=True) if ids else None

    def commit(self, part: Work) -> None:
        """Remember what a part that ran has left."""
        if part.again:
            return
        kept = self.kept(part)
        if part.parents is None:
            self._sessions[part.session] = History([*kept, *part.new_ids])
        else:
            self._sessions[part.session] = History(kept, tuple(part.new_ids), tuple(part.parents))

    def extend(self, session: int, position: int, token: int) -> bool:
        """Remember one more id of a session that holds just `position` of them and no tree; return False if it does not."""
        history = self[session]
        if len(history.ids) != position or not position or history.parents:
            return False
        history.ids.append(token)
        return True

    def cut(self, session: int, length: int) -> None:
        """Forget the ids of a session from `length` on."""
        del self[session].ids[length:]

    def forget(self, session: int) -> None:
        """Drop a session; unknown ones are ignored."""
        self._sessions.pop(session, None)

    def clear(self) -> None:
        """Drop every session."""
        self._sessions.clear()
