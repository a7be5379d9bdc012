"""What the base station knows of a conversation, and which uploads it has not answered: a mirror of its session.

    known ids = Open's prefix + of every answered upload: context ids, skipped ids, drafts that stand, the token after them
    epoch     = corrections: verdicts that reject a draft, and guesses of a bonus that were wrong

Kept from uploads and verdicts alone, so that it is right however late the decode loop takes a verdict to heart. Where a
stream is lost, the next one opens with the known ids and brings what still stands of the unanswered uploads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from uihlm_device.stream.session import Upload, Verdict
from uihlm_proto.trees import child_of


@dataclass(slots=True)
class _Tree:
    """A tree as one stream's base station has it; `end` is where the walk stands, None before the first verdict."""

    tokens: list[int]
    parents: list[int]
    end: int | None = None


@dataclass(slots=True)
class _Pending:
    """An upload without its last verdict.

    Attributes:
        upload: it.
        stands: whether it will be judged whatever stream it is asked on; what continues a tree does not.
        received: of a `generate` round, tokens so far.
        tree: which it begins or continues.
    """

    upload: Upload
    stands: bool
    received: int = 0
    tree: _Tree | None = None


@dataclass(slots=True)
class Unanswered:
    """The mirror of one session.

    Attributes:
        known: every id the base station has.
        epoch: corrections since the conversation's first stream.
    """

    known: list[int] = field(default_factory=list)
    epoch: int = 0
    _pending: dict[int, _Pending] = field(default_factory=dict)
    # The bonus that came last, and whether it came on the stream that is open now.
    _bonus: int | None = None
    _bonus_here: bool = False
    # Of the open stream: the conversation's epoch in which it began, and the tree that may be continued on it.
    _epoch_0: int = 0
    _tree: _Tree | None = None

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._pending))

    def __contains__(self, number: object) -> bool:
        return number in self._pending

    def opened(self, ids: Sequence[int], epoch: int) -> None:
        """Note a stream that opens with these ids, in this epoch of the conversation."""
        self.known, self.epoch = list(ids), epoch
        self._epoch_0, self._bonus_here, self._tree = epoch, False, None

    def sent_as(self, upload: Upload) -> Upload | None:
        """Return an upload as the open stream's base station must see it; None if it has fallen with an earlier stream."""
        first = not any(pending.stands for pending in self._pending.values())
        if first and upload.assumed_id is not None and upload.epoch == self.epoch and not self._bonus_here:
            # It follows a verdict of an earlier stream, of which this one knows nothing.
            if upload.assumed_id != self._bonus:
                self.epoch += 1
                self._epoch_0 += 1
            upload = replace(upload, assumed_id=None)
        if upload.epoch < self._epoch_0 or (upload.continues and self._tree is None):
            return None
        return replace(upload, epoch=upload.epoch - self._epoch_0) if self._epoch_0 else upload

    def add(self, number: int, upload: Upload) -> None:
        """Note an upload that was sent."""
        if upload.continues:
            assert self._tree is not None, "what continues no tree is not sent"
            self._tree.tokens += upload.tokens
            self._tree.parents += upload.parents
            self._pending[number] = _Pending(upload, stands=False, tree=self._tree)
            return
        self._tree = _Tree(list(upload.tokens), list(upload.parents)) if upload.parents else None
        stands = upload.epoch == self.epoch
        standing = any(pending.stands for pending in self._pending.values())
        if stands and not standing and self._bonus_here and upload.assumed_id not in (None, self._bonus):
            self.epoch += 1
            stands = False
        self._pending[number] = _Pending(upload, stands, tree=self._tree)

    def stands(self, number: int) -> bool:
        """Return whether a round is pending and will be judged."""
        return number in self._pending and self._pending[number].stands

    def walks_on(self, number: int) -> bool:
        """Return whether a round continues the tree where the LLM went on, so that the open stream will judge it."""
        pending = self._pending.get(number)
        if pending is None or not pending.upload.continues or pending.tree is not self._tree:
            return False
        own = range(pending.upload.continues, pending.upload.continues + len(pending.upload.tokens))
        return self._next_node() in own

    def walked(self, number: int, verdict: Verdict) -> None:
        """Note a verdict on what continues a tree."""
        upload, tree = self._pending.pop(number).upload, self._tree
        assert tree is not None, "its verdict came on the open stream"
        tree.end = verdict.path[-1] if verdict.path else self._next_node()
        self.known += [tree.tokens[node] for node in verdict.path]
        if verdict.token is not None:
            self.known.append(verdict.token)
        corrected = tree.end in tree.parents[: upload.continues + len(upload.tokens)]
        self.epoch += corrected
        self._bonus, self._bonus_here = None if corrected else verdict.token, True

    def _next_node(self) -> int | None:
        """Return the node of the tree that holds the LLM's last draw."""
        tree = self._tree
        if tree is None or tree.end is None:
            return None
        return child_of(tree.tokens, tree.parents, tree.end, self.known[-1])

    def again(self) -> list[tuple[int, Upload]]:
        """Return what is to be asked again on a stream that opens with the known ids."""
        asked: list[tuple[int, Upload]] = []
        for number, pending in self._pending.items():
            upload = pending.upload
            if not pending.stands:
                continue
            if pending.received:
                left = upload.generate - pending.received
                upload = Upload(0, len(self.known), generate=left, stream_interval=upload.stream_interval)
            # The bonus that the oldest one assumes has come, and is known.
            asked.append((number, replace(upload, epoch=0, assumed_id=upload.assumed_id if asked else None)))
        return asked

    def take(self, number: int, verdict: Verdict) -> None:
        """Note a verdict of a round that stands, and what falls with it."""
        pending = self._pending[number]
        upload = pending.upload
        if not pending.received:
            self.known += [*upload.context_ids, *upload.skipped_ids]
        pending.received += 1 + len(verdict.written)
        path = verdict.path if upload.parents else range(verdict.accepted)
        self.known += [upload.tokens[node] for node in path]
        self.known += verdict.written
        if verdict.token is not None:
            self.known.append(verdict.token)
        if not verdict.last:
            return
        del self._pending[number]
        end = path[-1] if path else -1
        if pending.tree is not None and pending.tree is self._tree:
            self._tree.end = end
        corrected = end in upload.parents if upload.parents else verdict.accepted < len(upload.tokens)
        self._bonus, self._bonus_here = None if corrected else verdict.token, True
        later = [other for other in self._pending.values() if other.stands]
        wrong_guess = bool(later) and later[0].upload.assumed_id not in (None, self._bonus)
        if corrected or wrong_guess:
            self.epoch += 1
            for other in later:
                other.stands = False

    def drop(self, number: int) -> bool:
        """Forget a round; return whether it was pending."""
        return self._pending.pop(number, None) is not None
