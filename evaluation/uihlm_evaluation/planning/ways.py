"""The ways of asking that a plan compares."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_evaluation.calibration.plan_figures import PlanFigures, SkipFigures

LENGTHS = (2, 3, 4, 6, 8)
WINDOWS = (2, 4, 8)


class Family(enum.StrEnum):
    """What sets ways apart at a glance."""

    SLM = "slm"
    LLM = "llm"
    SKIPPING = "u"
    WAITING = "hlm, one draft"
    BLOCKS = "hlm, blocks"
    FLIGHTS = "hlm, in flight"
    TREES = "hlm, trees"


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking: a policy with what it sends at once.

    Attributes:
        policy: `slm`, `llm`, `u` or `hlm`.
        draft_length: drafts an upload.
        in_flight: uploads that may wait for their verdicts.
        tree: nodes of the tree an upload carries; 0: none.
        theta_u: threshold of `u`; None elsewhere.
        run_on: whether the LLM's forward begins with the verdict before (single drafts alone), or with the upload, as in the
            papers.
    """

    policy: str
    draft_length: int = 1
    in_flight: int = 1
    tree: int = 0
    theta_u: float | None = None
    run_on: bool = False

    @property
    def family(self) -> Family:
        """Its kind."""
        if self.policy != "hlm":
            return Family(self.policy)
        if self.tree:
            return Family.TREES
        if self.in_flight > 1:
            return Family.FLIGHTS
        return Family.BLOCKS if self.draft_length > 1 else Family.WAITING

    @property
    def flags(self) -> str:
        """The flags of `chat` and `eval` that ask this way."""
        parts = [f"--policy {self.policy}"]
        if self.theta_u is not None:
            parts.append(f"--theta-u {self.theta_u:.3g}")
        if self.draft_length > 1:
            parts.append(f"--draft-length {self.draft_length}")
        if self.in_flight > 1:
            parts.append(f"--in-flight {self.in_flight}")
        if self.tree:
            parts.append(f"--tree {self.tree}")
        if self.family in (Family.WAITING, Family.FLIGHTS) and not self.run_on:
            parts.append("--no-run-on")
        return " ".join(parts)

    def __str__(self) -> str:
        match self.family:
            case Family.SKIPPING:
                return f"u, θ_u = {self.theta_u:.3g}"
            case Family.BLOCKS:
                return f"hlm, blocks of {self.draft_length}"
            case Family.FLIGHTS:
                return f"hlm, {self.in_flight} in flight" + ("" if self.run_on else ", waits")
            case Family.TREES:
                return f"hlm, tree of {self.tree}"
            case Family.WAITING:
                return "hlm, runs on" if self.run_on else "hlm, waits"
            case _:
                return self.policy


SLM = Way("slm")
LLM = Way("llm")


def ways(figures: PlanFigures, risk: float, trees: bool = True) -> list[Way]:
    """Return every way that this pair has, `u` at the threshold that suits a cap on the risk of skipping.

    Args:
        figures: of the pair.
        risk: rejection probability of skipped tokens, a token, that is put up with.
        trees: whether the codec has trees.
    """
    found = [SLM, LLM]
    if (point := skipping(figures.skipping, risk)) is not None:
        found.append(Way("u", theta_u=point.theta_u))
    found += [Way("hlm"), Way("hlm", run_on=True)]
    found += [Way("hlm", draft_length=length) for length in LENGTHS]
    found += [Way("hlm", in_flight=window, run_on=True) for window in WINDOWS]
    return [*found, *(Way("hlm", tree=tree.nodes) for tree in figures.trees if trees)]


def skipping(points: Sequence[SkipFigures], risk: float) -> SkipFigures | None:
    """Return the point that uploads least of those within the cap, else the one of least risk; None without points."""
    within = [point for point in points if point.risk <= risk]
    if within:
        return min(within, key=lambda point: point.upload_rate)
    return min(points, key=lambda point: point.risk, default=None)
