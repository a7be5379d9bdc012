"""Two rows of a run in one measure, by paired bootstrap over prompts.

    difference = statistic(first) - statistic(second);    shown if its 95 % interval leaves out 0

Share of rejections caught by a row:

    caught = (Σ_uploaded β / tokens) of the row  ÷  (Σ_uploaded β / tokens) of hlm

with β the rejection probability that each verdict told. It is a ratio of rates a token, since answers differ in length, and
expected, not counted: the accept draw adds no noise. Where verdicts tell no β (codec `coupled`) rejections are counted.
A row that skips goes other ways than `hlm` does: caught may exceed 1 where its own drafts are worse.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.report.measures import Floats, RowMeasures, Study, interval
from uihlm_evaluation.results.policy_result import HLM

MIN_PROMPTS = 10

CAUGHT_DEFINITION = (
    "Share of rejections caught: rejection probabilities of the drafts a row uploads, summed, per token of its answers, "
    "divided by the same of hlm, which uploads all."
)
COUNTED_DEFINITION = (
    "Share of rejections caught: rejections of the drafts a row uploads, counted (the verdicts of this run tell no "
    "rejection probability), per token of its answers, divided by the same of hlm, which uploads all."
)


class Outcome(enum.StrEnum):
    """What a comparison shows."""

    BETTER = "better"
    WORSE = "worse"
    NOT_SHOWN = "no difference shown"
    MIXED = "mixed"
    NOT_ANSWERED = "not answered"


class Measure(enum.Enum):
    """A quantity in which rows are compared."""

    QUALITY = "BERTScore F1"
    CAUGHT = "share of rejections caught"
    FORWARDS = "LLM forwards per token"
    BITS = "uplink bits per token"
    SECONDS = "seconds per token"

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better."""
        return self in (Measure.FORWARDS, Measure.BITS, Measure.SECONDS)

    def shown(self, value: float, signed: bool = False) -> str:
        """Return a value, or a difference, with its unit."""
        sign = "+" if signed else ""
        if self is Measure.CAUGHT:
            return f"{100.0 * value:{sign}.1f} {'points' if signed else '%'}".replace("-", "−")
        digits = {Measure.QUALITY: ".4f", Measure.BITS: ",.0f"}.get(self, ".3f")
        return f"{value:{sign}{digits}}".replace("-", "−")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows in one measure.

    Attributes:
        first, second: labels.
        first_value, second_value: of the measure.
        difference: first − second.
        outcome: of the first.
        first_upload, second_upload: upload rates.
        prompts: how many prompts stand behind it.
    """

    first: str
    second: str
    first_value: float
    second_value: float
    difference: Interval
    outcome: Outcome
    first_upload: float
    second_upload: float
    prompts: int


def compare(study: Study, first: RowMeasures, second: RowMeasures, measure: Measure) -> Comparison | str:
    """Return the comparison of two rows, or in words why there is none."""
    if measure is Measure.CAUGHT and not study.of_policy(HLM):
        return "the share is taken of the rejections of hlm, and the run has no such row: add --policy hlm"
    columns, statistic = _columns(study, first, second, measure)
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    prompts = columns.shape[1]
    if prompts == 0 and study.prompts and measure is Measure.QUALITY:
        return "the run holds no BERTScore by prompt (scores.jsonl): end it again with --resume and its metrics on"
    if prompts < MIN_PROMPTS:
        return f"{prompts} prompts answered by all rows are too few for an interval: run {MIN_PROMPTS} at least"
    difference = interval(lambda totals: np.subtract(*statistic(totals)), columns, study.seed)
    if difference is None:
        return "there is too little to divide by (no tokens, or no rejections under hlm): run more prompts"
    one, other = (float(value[0]) for value in statistic(columns.sum(axis=1, keepdims=True)))
    return Comparison(
        first.label,
        second.label,
        one,
        other,
        difference,
        _outcome(difference, measure.lower_is_better),
        first.upload_rate,
        second.upload_rate,
        prompts,
    )


def _columns(
    study: Study, first: RowMeasures, second: RowMeasures, measure: Measure
) -> tuple[Floats, Callable[[Floats], tuple[Floats, Floats]]]:
    """Return what is summed over prompts `[m, n]`, and from totals to the values of both rows."""
    if measure is Measure.QUALITY:
        ones = np.ones_like(first.quality)
        return np.stack([first.quality, second.quality, ones]), lambda t: (t[0] / t[2], t[1] / t[2])
    if measure is Measure.CAUGHT:
        hlm = study.of_policy(HLM)[0]
        rows = [first.caught, first.tokens, second.caught, second.tokens, hlm.caught, hlm.tokens]
        return np.stack(rows), lambda t: (t[0] / t[1] * t[5] / t[4], t[2] / t[3] * t[5] / t[4])
    name = {Measure.FORWARDS: "llm_forwards", Measure.BITS: "model_bits", Measure.SECONDS: "latency_s"}[measure]
    rows = [getattr(first, name), first.tokens, getattr(second, name), second.tokens]
    return np.stack(rows), lambda t: (t[0] / t[1], t[2] / t[3])


def _outcome(difference: Interval, lower_is_better: bool) -> Outcome:
    if difference.low <= 0.0 <= difference.high:
        return Outcome.NOT_SHOWN
    return Outcome.BETTER if (difference.mean < 0.0) == lower_is_better else Outcome.WORSE
