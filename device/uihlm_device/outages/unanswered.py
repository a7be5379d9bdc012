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


@dataclass(slots=True)
class _Pending:
    """An upload without its last verdict; `stands` says whether it will be judged, `received` counts its verdicts."""

    upload: Upload
    stands: bool
    received: int = 0


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
    # Of the open stream: the conversation's epoch in which it began.
    _epoch_0: int = 0

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._pending))

    def opened(self, ids: Sequence[int], epoch: int) -> None:
        """Note a stream that opens with these ids, in this epoch of the conversation."""
        self.known, self.epoch = list(ids), epoch
        self._epoch_0, self._bonus_here = epoch, False

    def sent_as(self, upload: Upload) -> Upload | None:
        """Return an upload as the open stream's base station must see it; None if it has fallen with an earlier stream."""
        first = not any(pending.stands for pending in self._pending.values())
        if first and upload.assumed_id is not None and upload.epoch == self.epoch and not self._bonus_here:
            # It follows a verdict of an earlier stream, of which this one knows nothing.
            if upload.assumed_id != self._bonus:
                self.epoch += 1
                self._epoch_0 += 1
            upload = replace(upload, assumed_id=None)
        if upload.epoch < self._epoch_0:
            return None
        return replace(upload, epoch=upload.epoch - self._epoch_0) if self._epoch_0 else upload

    def add(self, number: int, upload: Upload) -> None:
        """Note an upload that was sent."""
        stands = upload.epoch == self.epoch
        standing = any(pending.stands for pending in self._pending.values())
        if stands and not standing and self._bonus_here and upload.assumed_id not in (None, self._bonus):
            self.epoch += 1
            stands = False
        self._pending[number] = _Pending(upload, stands)

    def stands(self, number: int) -> bool:
        """Return whether a round is pending and will be judged."""
        return number in self._pending and self._pending[number].stands

    def again(self) -> list[tuple[int, Upload]]:
        """Return what is to be asked again on a stream that opens with the known ids."""
        asked: list[tuple[int, Upload]] = []
        for number, pending in self._pending.items():
            upload = pending.upload
            if not pending.stands:
                continue
            if pending.received:
                upload = Upload(0, len(self.known), generate=upload.generate - pending.received)
            # The bonus that the oldest one assumes has come, and is known.
            asked.append((number, replace(upload, epoch=0, assumed_id=upload.assumed_id if asked else None)))
        return asked

    def take(self, number: int, verdict: Verdict) -> None:
        """Note a verdict of a round that stands, and what falls with it."""
        pending = self._pending[number]
        upload = pending.upload
        if not pending.received:
            self.known += [*upload.context_ids, *upload.skipped_ids]
        pending.received += 1
        path = verdict.path if upload.parents else range(verdict.accepted)
        self.known += [upload.tokens[node] for node in path]
        if verdict.token is not None:
            self.known.append(verdict.token)
        if not verdict.last:
            return
        del self._pending[number]
        end = path[-1] if path else -1
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
