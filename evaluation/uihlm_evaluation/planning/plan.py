"""The choice: every way on a link, and the best of those that are allowed."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uihlm_evaluation.planning.equations import Conditions, Model, Prediction
from uihlm_evaluation.planning.ways import Family, ways


class Objective(enum.Enum):
    """What is wanted: most tokens a second, fewest joules, or fewest LLM forwards, a token."""

    TOKENS = "tokens"
    JOULES = "joules"
    FORWARDS = "forwards"


# Less is better; ties go to the quicker way.
_COSTS: dict[Objective, Callable[[Prediction], float]] = {
    Objective.TOKENS: lambda prediction: 1.0 / prediction.tok_s,
    Objective.JOULES: lambda prediction: prediction.joules,
    Objective.FORWARDS: lambda prediction: prediction.forwards,
}


def cost(prediction: Prediction, objective: Objective) -> float:
    """Return what is to be small: seconds, joules or forwards a token."""
    return _COSTS[objective](prediction)


@dataclass(frozen=True, slots=True)
class Plan:
    """Every way and the best one.

    Attributes:
        predictions: of each way.
        objective: what is wanted.
        risk: the cap on the risk of skipping.
        outage: whether there is no base station to ask.
    """

    predictions: Sequence[Prediction]
    objective: Objective
    risk: float
    outage: bool = False

    @property
    def best(self) -> Prediction:
        """The best of the allowed ways."""
        allowed = [prediction for prediction in self.predictions if self.refusal(prediction) is None]
        return min(allowed, key=lambda prediction: (cost(prediction, self.objective), -prediction.tok_s))

    def refusal(self, prediction: Prediction) -> str | None:
        """Return why a way is not allowed; None if it is."""
        alone = prediction.way.family is Family.SLM
        if self.outage:
            return None if alone else "no base station"
        if alone:
            return "in an outage alone"
        # A risk that was measured as nothing is not none: without a cap above 0 only what skips nothing is left.
        skips = prediction.way.family is Family.SKIPPING
        if skips and (self.risk == 0.0 or (prediction.risk or 0.0) > self.risk):
            return f"risk above {self.risk:g}"
        return None

    @property
    def reason(self) -> str:
        """Why the best one is best, in a sentence."""
        best, name = self.best, self.best.way
        if self.outage:
            return "there is no base station to ask: slm writes alone, and nobody checks it"
        rivals = [p for p in self.predictions if self.refusal(p) is None and p.way.family is not best.way.family]
        rival = min(rivals, key=lambda prediction: cost(prediction, self.objective))
        use = "use the LLM alone" if best.way.family is Family.LLM else f"use {name}"
        return f"{use}: {self._value(best)}, against {self._value(rival)} of {rival.way}"

    def _value(self, prediction: Prediction) -> str:
        match self.objective:
            case Objective.TOKENS:
                return f"{prediction.tok_s:.3g} tokens/s"
            case Objective.JOULES:
                return f"{prediction.joules:.3g} J a token"
            case Objective.FORWARDS:
                return f"{prediction.forwards:.2f} LLM forwards a token"


def plan(
    model: Model,
    conditions: Conditions,
    objective: Objective = Objective.TOKENS,
    risk: float = 0.0,
    *,
    trees: bool = True,
    outage: bool = False,
) -> Plan:
    """Return what every way comes to under these conditions, and what follows.

    Args:
        model: the equations of a pair.
        conditions: where answers are written.
        objective: what is wanted.
        risk: cap on the risk of skipping; 0 leaves the lossless ways.
        trees: whether the codec has trees.
        outage: whether there is no base station to ask.
    """
    found = [model.predict(way, conditions) for way in ways(model.figures, risk, trees)]
    return Plan(found, objective, risk, outage)
