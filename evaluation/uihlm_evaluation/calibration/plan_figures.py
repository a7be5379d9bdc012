"""What a plan needs to know of a pair of models and the machines they run on; a part of the profile.

Seconds are of compute alone, without link and prefill, the lower quartile of what was seen. `uihlm-device plan --measure`
measures them.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any, Self

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.timing import TimingProfile


@dataclass(frozen=True, slots=True)
class TreeFigures:
    """What an upload of a draft tree comes to, means over trips.

    Attributes:
        nodes: the tree's size, N.
        tokens: that a trip yields.
        drafter_calls, drafter_nodes: batches that growing one takes, and the positions run in them.
    """

    nodes: int
    tokens: float
    drafter_calls: float
    drafter_nodes: float


@dataclass(frozen=True, slots=True)
class SkipFigures:
    """What policy `u` does at a threshold: share of tokens uploaded, and DESIGN's `skipped_risk`."""

    theta_u: float
    upload_rate: float
    risk: float


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """How many times as long as alone a forward takes when so many sessions ask at once."""

    sessions: int
    slowdown: float


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """The measured figures. Field by field the object `plan` in `profile.json`.

    Attributes:
        measured: when, and on what, in words.
        prompts, tokens: how many were measured.
        vocabulary_size: V.
        acceptance: of a draft under codec `coupled`.
        draft_s: a step of the drafter; `u_draft_s` one with its uncertainty; `draft_position_s` a further node of a batch.
        forward_s: an LLM forward over one position; `position_s` each further one.
        trees: by size; empty where the drafter grows none.
        skipping: of policy `u`, by threshold.
        load: the batch curve, from one session on.

    Raises:
        InvalidRequestError: for a figure outside its range.
    """

    measured: str
    prompts: int
    tokens: int
    vocabulary_size: int
    acceptance: float
    draft_s: float
    u_draft_s: float
    draft_position_s: float
    forward_s: float
    position_s: float
    trees: tuple[TreeFigures, ...] = ()
    skipping: tuple[SkipFigures, ...] = ()
    load: tuple[LoadFigures, ...] = (LoadFigures(1, 1.0),)

    def __post_init__(self) -> None:
        seconds = (self.draft_s, self.u_draft_s, self.draft_position_s, self.forward_s, self.position_s)
        if not all(math.isfinite(value) and value >= 0.0 for value in seconds) or not self.forward_s + self.draft_s > 0:
            raise InvalidRequestError(f"a plan's seconds must be finite, at least 0 and not all 0, got {seconds}")
        rates = [self.acceptance, *(rate for point in self.skipping for rate in (point.upload_rate, point.risk))]
        if not all(0.0 <= rate <= 1.0 for rate in rates):
            raise InvalidRequestError(f"a plan's rates lie in 0 … 1, got {rates}")
        if any(tree.nodes < 1 or not 1.0 <= tree.tokens <= tree.nodes + 1 for tree in self.trees):
            raise InvalidRequestError(f"a tree of N ≥ 1 nodes yields 1 … N + 1 tokens a trip, got {self.trees}")
        sessions = [point.sessions for point in self.load]
        if sessions != sorted(set(sessions)) or sessions[:1] != [1] or any(not p.slowdown > 0.0 for p in self.load):
            raise InvalidRequestError(f"a batch curve starts with one session and rises in sessions, got {self.load}")

    @property
    def timing(self) -> TimingProfile:
        """What a clock is charged to repeat the measured compute times."""
        return TimingProfile(self.draft_s, self.forward_s, self.position_s, self.draft_position_s)

    def slowdown(self, sessions: int) -> float:
        """Return how many times as long a forward takes with so many sessions: between measured points, and beyond the
        last one, by a straight line.

        Raises:
            InvalidRequestError: for less than one session, or more than one where only one was measured.
        """
        if sessions < 1:
            raise InvalidRequestError(f"a base station under plan serves at least this one session, got {sessions}")
        known = {point.sessions: point.slowdown for point in self.load}
        if sessions in known:
            return known[sessions]
        if len(self.load) < 2:
            raise InvalidRequestError("this profile has no batch curve: measure it with `uihlm-device plan --measure`")
        above = next((at for at, point in enumerate(self.load) if point.sessions > sessions), len(self.load) - 1)
        left, right = self.load[above - 1], self.load[above]
        slope = (right.slowdown - left.slowdown) / (right.sessions - left.sessions)
        return left.slowdown + slope * (sessions - left.sessions)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Return the figures that a profile's object holds; InvalidRequestError if it is another one."""
        parts = {"trees": TreeFigures, "skipping": SkipFigures, "load": LoadFigures}
        if not isinstance(values, dict):
            raise InvalidRequestError(f"plan must be an object, got {type(values).__name__}")
        try:
            made = {
                name: tuple(_built(parts[name], entry) for entry in value) if name in parts else value
                for name, value in values.items()
            }
            return _built(cls, made)
        except TypeError as error:
            raise InvalidRequestError(f"plan holds something else than a plan's figures: {error}") from error


T = typing.TypeVar("T")


def _built(kind: type[T], values: dict[str, Any]) -> T:
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        wanted = {int: (int,), float: (int, float), str: (str,)}.get(hints.get(name, object), (object,))
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise TypeError(f"{name} cannot be {value!r}")
    return kind(**values)


def scaled(figures: PlanFigures, factor: float) -> PlanFigures:
    """Return the pair with an LLM that takes `factor` times as long, whatever it runs."""
    return dataclasses.replace(figures, forward_s=factor * figures.forward_s, position_s=factor * figures.position_s)
