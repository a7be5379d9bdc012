"""Holding a budget of risk: θ_u moves between answers so that skipping risks no more than was allowed.

    θ_{t+1} = clip(θ_t + γ·(R·n_t − s_t)/M, −γ, 1)

R the budget, n_t the tokens of answer t, s_t the audited rejection probabilities of its skipped tokens, summed, M the length
limit. An answer that risked too much lowers θ_u, so that more is uploaded; one that risked less raises it. This is online
conformal risk control (the update of adaptive conformal inference, arXiv:2106.00170, on a risk in place of a miss). It holds
for any stream of prompts, whatever their order or difficulty: under the policy `u` a negative θ uploads every token, so that
after N tokens

    Σ s_t / N  ≤  R + (θ_1 + γ)·M / (γ·N)

Summing the update gives it: θ falls by γ·(s_t − R·n_t)/M at least, and from 0 or more it can fall by no more than γ. The excess
goes as 1/N; there is no assumption behind it, and it says nothing of any single answer. Under `u-random` and `ui`, whose second
condition skips tokens at any θ, the risk can stay above the budget: θ then rests at −γ.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from uihlm_device.rules.policies import Evidence, Mode, Needs, Policy
from uihlm_proto.errors import InvalidRequestError

# How far θ_u moves for an answer of full length that was all risk: an answer that misses the budget by 0.1 moves it by 0.05.
GAIN = 0.5
HIGHEST = 1.0


class Recalibrate(enum.Enum):
    """Whether θ_u moves between answers."""

    OFF = "off"
    ONLINE = "online"


@dataclass(slots=True)
class RiskController:
    """θ_u under a budget.

    Attributes:
        budget: R, rejection probability of skipped tokens a token, 0 … 1.
        theta_u: for the next answer.
        max_tokens: M.
        gain: γ.

    Raises:
        InvalidRequestError: for a budget outside 0 … 1.
    """

    budget: float
    theta_u: float
    max_tokens: int
    gain: float = GAIN

    def __post_init__(self) -> None:
        if not 0.0 <= self.budget <= 1.0:
            raise InvalidRequestError(f"a risk budget lies in 0 … 1, got {self.budget}")

    def answered(self, tokens: int, risk_sum: float) -> None:
        """Note an answer of so many tokens, whose skipped ones were audited, and move θ_u."""
        moved = self.theta_u + self.gain * (self.budget * tokens - risk_sum) / self.max_tokens
        self.theta_u = min(HIGHEST, max(-self.gain, moved))

    def most(self, tokens: int, first_theta_u: float) -> float:
        """Return what the risk under policy `u` cannot exceed after so many tokens, started at θ_1."""
        return self.budget + (first_theta_u + self.gain) * self.max_tokens / (self.gain * tokens)


class RiskPolicy:
    """A policy whose θ_u the controller moves between answers.

    Attributes:
        controller: knows θ_u.
    """

    def __init__(self, controller: RiskController, make: Callable[[float], Policy]) -> None:
        """Start at the controller's θ_u; `make` gives the policy at a θ_u."""
        self.controller = controller
        self._make = make
        self._rule = make(controller.theta_u)

    @property
    def needs(self) -> Needs:
        """As the policy's; no θ_u changes it."""
        return self._rule.needs

    @property
    def mode(self) -> Mode:
        """As the policy's."""
        return self._rule.mode

    def uploads(self, evidence: Evidence) -> bool:
        """Return δ at the θ_u of the moment."""
        return self._rule.uploads(evidence)

    def answered(self, tokens: int, risk_sum: float | None) -> None:
        """Note an answer and move θ_u for the next one; one whose audit is not whole teaches nothing."""
        if risk_sum is not None:
            self.controller.answered(tokens, risk_sum)
            self._rule = self._make(self.controller.theta_u)
