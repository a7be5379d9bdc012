"""A drafter that does not walk the same way twice.

Answers to one prompt under several policies share their first tokens: with common random numbers the draft is the same
after the same prefix, and the two part only where one uploads a draft that is rejected. This drafter remembers the record
after every position of the way its cache holds now, gives it again where another answer comes by, and runs the small model
only from where the ways part. The model runs the same ids in the same batches as it would for that answer alone, so the
records are the same, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from uihlm_device.drafters.drafter import Drafter
from uihlm_device.record import Record, Wants
from uihlm_proto.errors import InvalidRequestError


class SharedPathDrafter:
    """Wraps a drafter (`uihlm_device.drafters.drafter.Drafter`); its records are copies that stay valid.

    Attributes:
        vocabulary_size, fingerprint, stop_ids, max_context: the drafter's.
        asked, ran: forwards asked for, and those that the model ran.
    """

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self.vocabulary_size = drafter.vocabulary_size
        self.fingerprint = drafter.fingerprint
        self.stop_ids = drafter.stop_ids
        self.max_context = drafter.max_context
        self.asked = self.ran = 0
        # What the model's cache holds, and the records known along it: position of the last id run → record.
        self._path: list[int] = []
        self._records: dict[int, tuple[Wants, Record]] = {}
        # What the caller believes the cache holds: the start of the path.
        self._believed: list[int] = []

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = Wants()) -> Record:
        """Return the record after `new_ids`, run or remembered; see `Drafter`.

        Raises:
            InvalidRequestError: as the drafter does.
        """
        if not 0 <= keep_len <= len(self._believed):
            raise InvalidRequestError(f"cannot keep {keep_len} positions: the cache holds {len(self._believed)}")
        self.asked += 1
        target = [*self._believed[:keep_len], *new_ids]
        last = len(target) - 1
        known = self._records.get(last)
        if len(new_ids) and known is not None and known[0] == wants and self._path[: len(target)] == target:
            self._believed = target
            return known[1]
        self._believed = target
        # What is kept is the start of the path in any case; from here the new ids run as one batch, as they would alone.
        return self._run(keep_len, new_ids, wants)

    def _run(self, start: int, ids: Sequence[int], wants: Wants) -> Record:
        self.ran += 1
        self._records = {at: record for at, record in self._records.items() if at < start}
        del self._path[start:]
        record = _copied(self._drafter.forward(start, ids, wants))
        self._path += ids
        self._records[len(self._path) - 1] = wants, record
        return record


def _copied(record: Record) -> Record:
    """Return the record with arrays of its own: views die with the next forward."""
    arrays: dict[str, Any] = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    copies = {name: np.array(array) for name, array in arrays.items() if array is not None}
    return dataclasses.replace(record, **copies)
