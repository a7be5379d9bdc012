"""Timing profiles: what a forward takes, measured or fixed, and the paper's throughput.

    λ = 1 / (μ_SLM + r_up · (μ + μ_LLM))           Eq. (3) of arXiv:2508.12590, averaged over tokens

With μ_SLM = 1.901 s and μ + μ_LLM = 2.119 s it gives all 23 λ of the paper's Table I to 0.005.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from uihlm_proto.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class TimingProfile:
    """What compute is charged to the clock; compute seconds repeat between runs only where it is fixed.

    Attributes:
        draft_s: seconds a drafter step; None is measured.
        forward_s: seconds an answer's LLM forward over one position; None is what the base station measured.
        position_s: seconds of each further position of a forward; without a fixed `forward_s` it says nothing.
        draft_position_s: seconds of each further node of a batch that grows a draft tree; None counts each as a step.

    Raises:
        InvalidRequestError: for a time that is negative or not finite.
    """

    draft_s: float | None = None
    forward_s: float | None = None
    position_s: float = 0.0
    draft_position_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("draft_s", "forward_s", "position_s", "draft_position_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise InvalidRequestError(f"{name} must be a finite number of seconds of at least 0, got {value}")

    def drafted_s(self, measured_s: float, nodes: int) -> float:
        """Return what a batch of the drafter over so many nodes is charged."""
        if self.draft_s is None or nodes == 0:
            return measured_s
        further_s = self.draft_s if self.draft_position_s is None else self.draft_position_s
        return self.draft_s + further_s * (nodes - 1)

    def charged_s(self, measured_s: float, positions: int, further: int = 0) -> float:
        """Return what a forward over so many positions is charged; without any the LLM ran nothing, whatever the profile.

        The last `further` of them were forwards of their own, of one position each.
        """
        if self.forward_s is None or positions == 0:
            return measured_s
        return self.forward_s * (1 + further) + self.position_s * max(0, positions - 1 - further)


MEASURED = TimingProfile()


@dataclass(frozen=True, slots=True)
class Eq3:
    """The paper's throughput model.

    Attributes:
        draft_s: μ_SLM, seconds a token on the device.
        round_s: μ + μ_LLM, seconds an uploaded token on the link and at the base station.

    Raises:
        InvalidRequestError: for a draft time not above 0 or a round time below 0.
    """

    draft_s: float
    round_s: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.draft_s) and self.draft_s > 0.0):
            raise InvalidRequestError(f"draft_s must be a finite number of seconds above 0, got {self.draft_s}")
        if not (math.isfinite(self.round_s) and self.round_s >= 0.0):
            raise InvalidRequestError(f"round_s must be a finite number of seconds of at least 0, got {self.round_s}")

    def throughput_tok_s(self, upload_rate: float) -> float:
        """Return λ in tokens a second at an upload rate of 0 … 1 (Eq. 3)."""
        if not 0.0 <= upload_rate <= 1.0:
            raise InvalidRequestError(f"an upload rate lies in 0 … 1, got {upload_rate}")
        return 1.0 / (self.draft_s + upload_rate * self.round_s)


PAPER = Eq3(draft_s=1.901, round_s=2.119)
