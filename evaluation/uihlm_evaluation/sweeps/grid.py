"""The rows of a sweep: policies crossed with the knobs they read. Without any named, those of the paper's Table I.

slm · llm · hlm · u · i for each k at γ = 1 · ui for each k and γ          (23 rows, and `llm`)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.rows import Row, described
from uihlm_proto.errors import InvalidRequestError

PAPER_POLICIES = ("slm", "llm", "hlm", "u", "i", "ui")
PAPER_K = (3, 5, 7, 9, 11)
PAPER_GAMMA = (0.5, 1.0, 1.5)
# The one γ of the paper's rows for the importance rule alone.
PAPER_GAMMA_I = (1.0,)

# What a sweep may vary: the numbers among the knobs of the rules, and γ.
KNOBS = (*(field.name for field in dataclasses.fields(PolicySettings) if field.name != "learned"), "gamma")


def grid(config: RunConfig, policies: Sequence[str], values: Mapping[str, Sequence[float]]) -> tuple[Row, ...]:
    """Return a row for each policy and each combination of the knobs it reads.

    Args:
        config: the run's own knobs: of those that do not vary.
        policies: names, in the order of the table; empty is the paper's.
        values: knob (of KNOBS) → the values it takes; a knob that is left out takes the paper's for `k` and `gamma`, the
            run's own otherwise.

    Raises:
        InvalidRequestError: if two rows come out the same, or a knob is not known.
    """
    if unknown := set(values) - set(KNOBS):
        raise InvalidRequestError(f"a sweep varies {', '.join(KNOBS)}, not {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    for name in policies or PAPER_POLICIES:
        plain = Row.of(name, config.rules, config.decode.gamma)
        read = plain.knobs
        taken = {knob: _values(name, knob, own, values) for knob, own in read.items()}
        varied = frozenset(knob for knob, choices in taken.items() if len(choices) > 1)
        for choice in itertools.product(*taken.values()):
            knobs: dict[str, Any] = dict(zip(taken, choice, strict=True))
            gamma = float(knobs.pop("gamma", config.decode.gamma))
            rules = dataclasses.replace(config.rules, **knobs)
            rows.append(described(Row(name, name, rules, gamma), varied))
    labels = [row.label for row in rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InvalidRequestError(f"the grid holds {', '.join(twice)} twice: name each policy and each value once")
    return tuple(rows)


def _values(policy: str, knob: str, own: float, values: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    if given := values.get(knob):
        return tuple(given)
    if knob == "k":
        return PAPER_K
    if knob == "gamma":
        return PAPER_GAMMA_I if policy == "i" else PAPER_GAMMA
    return (own,)


def in_walking_order(rows: Sequence[Row]) -> list[Row]:
    """Return the rows so that neighbours share as much of their way as may be.

    Answers part where one row uploads a draft that is rejected and the other does not, so rows of one drafter stand
    together, and among those the rows that upload alike.
    """

    def place(row: Row) -> tuple[bool, float, float, str]:
        knobs = row.knobs
        # The importance rule uploads less for a larger k and a smaller γ.
        return "k" in knobs, -knobs.get("k", 0.0), knobs.get("gamma", 0.0), row.policy

    return sorted(rows, key=place)
