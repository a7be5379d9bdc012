"""What compute takes on this machine, measured alone: what rows that run side by side are charged.

    draft    mean seconds a drafted token, for each kind of row (what its policy needs costs time), of the quickest prompt
    forward  a + b·(positions − 1) seconds; a, b medians over the LLM's forwards, of the shortest and of the others' rest

Two computations at once slow each other down, and work that rows share is done once; neither may show in a row's seconds. So a
few prompts are answered first with nothing beside them, and every row is charged what was measured then. Minimum and
medians, because a machine is never quite alone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from uihlm_device.rules.policies import Mode, Needs, policy
from uihlm_device.tokens import TokenRecord
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import Sample
from uihlm_evaluation.whole_files import write_whole
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.timing import TimingProfile

# Prompts answered alone: forwards of many lengths come up within the first.
PROMPTS = 3

# The last token's own draft is not what the prompt's prefill took: that is charged as any other draft.
_FIRST = 1


@dataclass(frozen=True, slots=True)
class ComputeTimes:
    """Seconds measured alone.

    Attributes:
        draft_s: label of a row → seconds a draft.
        forward_s: seconds an LLM forward over one position.
        position_s: seconds of each further position.
    """

    draft_s: Mapping[str, float]
    forward_s: float
    position_s: float

    def of(self, row: Row) -> TimingProfile:
        """Return what a row is charged; one added later is charged as its like."""
        known = self.draft_s.get(row.label)
        if known is None:
            known = self.draft_s.get(_kind(row))
        if known is None:
            raise InvalidRequestError(
                f"nothing was timed that computes what {row.label} does: the sweep was begun without it, or without "
                "--controls; go on as it was begun, or name another --output"
            )
        return TimingProfile(known, self.forward_s, self.position_s)

    @classmethod
    def fixed(cls, rows: Sequence[Row], draft_s: float, forward_s: float, position_s: float) -> ComputeTimes:
        """Return times that somebody else knows, one draft time for every row."""
        return cls({key: draft_s for row in rows for key in (row.label, _kind(row))}, forward_s, position_s)

    def write(self, path: Path) -> None:
        """Write the times as JSON."""
        write_whole(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> ComputeTimes:
        """Read what `write` wrote; InvalidRequestError if it is something else."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InvalidRequestError(
                f"{path} does not hold the compute times of a sweep ({error}): name another --output"
            ) from error


def _kind(row: Row) -> str:
    """Return a name shared by rows whose drafts cost the same."""
    # A coin, or a look at the draft, costs nothing to speak of.
    return f"kind {(policy(row.policy, row.rules).needs & ~(Needs.COIN | Needs.DRAFT)).value}"


def measure(
    rows: Sequence[Row],
    examples: Sequence[Example],
    answer: Callable[[str, Example], tuple[Sample, list[TokenRecord]]],
) -> ComputeTimes:
    """Answer the first prompts under one row of each kind, alone, and return what compute took.

    Args:
        rows: of the sweep.
        examples: its prompts.
        answer: answers a prompt under the row of a label, nothing shared and nothing else running.

    Raises:
        InvalidRequestError: if every answer failed, so that there is nothing to go by.
    """
    kinds: dict[str, Row] = {}
    for row in rows:
        if policy(row.policy, row.rules).mode is not Mode.LLM_ALONE:
            kinds.setdefault(_kind(row), row)
    asking = [row for row in rows if policy(row.policy, row.rules).mode is Mode.LLM_ALONE][:1]
    timed = [*kinds.values(), *asking]
    chosen = examples[:PROMPTS]
    means: dict[str, float] = {}
    forwards: list[tuple[int, float]] = []
    failure: str | None = None
    for row, example in itertools.product(timed, chosen):
        sample, records = answer(row.label, example)
        failure = sample.error or failure
        if row not in asking and len(records) > _FIRST:
            mean = float(np.mean([record.draft_s for record in records[_FIRST:]]))
            means[_kind(row)] = min(mean, means.get(_kind(row), mean))
        forwards += [(r.llm_positions, r.forward_s) for r in records if r.llm_forwards == 1 and r.forward_s > 0.0]
    if set(kinds) - set(means):
        raise InvalidRequestError(f"no answer to the first prompts, so nothing to time: {failure}")
    forward_s, position_s = _line(forwards)
    by_label = {row.label: means.get(_kind(row), 0.0) for row in rows}
    return ComputeTimes({**means, **by_label}, forward_s, position_s)


def _line(forwards: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return (seconds of one position, seconds a further one); (0, 0) without forwards."""
    if not forwards:
        return 0.0, 0.0
    positions = np.array([count for count, _ in forwards], np.float64)
    seconds = np.array([taken for _, taken in forwards])
    least = positions.min()
    shortest = float(np.median(seconds[positions == least]))
    longer = positions > least
    if not longer.any():
        return shortest, 0.0
    slope = max(0.0, float(np.median((seconds[longer] - shortest) / (positions[longer] - least))))
    return max(0.0, shortest - slope * float(least - 1.0)), slope
