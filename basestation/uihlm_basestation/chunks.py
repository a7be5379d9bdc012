"""A request of one session, cut into parts that a forward can take one at a time.

    missing   ids of a cache that made room for others', to be run again
    head      missing + new ids before the rows that are wanted: all that can be cut
    tail      the rows, or the tree below its trunk: goes in one part

A part of the head asks for no rows, so its logits are never made; the tail's rows are those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from uihlm_basestation.engines.engine import Work
from uihlm_basestation.engines.trees import trunk_length


@dataclass(slots=True)
class Request:
    """What is left of one piece of work.

    Attributes:
        work: what was asked.
        ran: of its new ids, how many have run.
        missing: what must run again before them; to be set before every forward (`Engine.missing`).
    """

    work: Work
    ran: int = 0
    missing: Work | None = None
    _own: int = field(init=False)

    def __post_init__(self) -> None:
        work = self.work
        self._own = len(work.new_ids) - work.rows
        if work.parents is not None:
            trunk = trunk_length(work.parents)
            # Nodes below the cut must not hang from above it.
            self._own = min(self._own, min(work.parents[trunk:], default=trunk - 1) + 1)

    @property
    def head(self) -> int:
        """Positions that can be cut off before the tail."""
        return self._missing + self._own - self.ran

    @property
    def positions(self) -> int:
        """Positions left to run."""
        return self._missing + len(self.work.new_ids) - self.ran

    @property
    def _missing(self) -> int:
        return 0 if self.missing is None else len(self.missing.new_ids)

    def last(self) -> Work:
        """Return all that is left, as one part."""
        if self.ran == 0:
            return self.work
        work = self.work
        parents = None if work.parents is None else [parent - self.ran for parent in work.parents[self.ran :]]
        return replace(
            work, keep_len=work.keep_len + self.ran, new_ids=work.new_ids[self.ran :], parents=parents, path=()
        )

    def first(self, positions: int) -> Work:
        """Return the first `positions` of the head as one part, or fewer."""
        if self.missing is not None:
            return replace(self.missing, new_ids=self.missing.new_ids[:positions], more=True)
        work = self.work
        new_ids = work.new_ids[self.ran : self.ran + positions]
        path = () if self.ran else work.path
        return Work(work.session, work.keep_len + self.ran, new_ids, 0, path=path, more=True)

    def note(self, part: Work) -> None:
        """Take note that a part of the head has run."""
        if not part.again:
            self.ran += len(part.new_ids)
