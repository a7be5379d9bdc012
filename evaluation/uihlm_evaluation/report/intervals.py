"""How far a row's ratios can be trusted: a bootstrap over prompts, the same draw of prompts for every row.

    ratio_b = Σ_i w_bi · numerator_i / Σ_i w_bi · denominator_i,   w_b = how often each prompt was drawn

Rates are ratios of totals, so numerator and denominator are drawn together; η draws the `hlm` row's prompts along with
the row's own, so that what differs between prompts stays out of its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uihlm_evaluation.quality.bootstrap import Interval, prompt_draws
from uihlm_evaluation.results.policy_result import HLM, PolicyResult
from uihlm_evaluation.runs.samples import Sample
from uihlm_wireless.energy import DENSE32_LOAD, REJECT_COST, TOKEN_COST, UPLOAD_COST
from uihlm_wireless.timing import PAPER

Floats = NDArray[np.float64]

_FIELDS = ("tokens", "uploaded", "rejected", "model_bits", "latency_s", "llm_forwards")


@dataclass(frozen=True, slots=True)
class RatioIntervals:
    """A row's ratios with 95 % intervals; None where the row's result has no value. `mean` is the ratio of its totals.

    Attributes:
        throughput_tok_s: tokens ÷ latency.
        throughput_paper_tok_s: Eq. (3) at the upload rate.
        energy_saving_ratio: η.
        llm_forwards_per_token: LLM forwards ÷ tokens.
    """

    throughput_tok_s: Interval | None
    throughput_paper_tok_s: Interval | None
    energy_saving_ratio: Interval | None
    llm_forwards_per_token: Interval | None


def ratio_intervals(
    results: Sequence[PolicyResult], samples: Sequence[Sample], vocabulary_size: int, seed: int = 0
) -> dict[str, RatioIntervals]:
    """Return the intervals of every row by its label; failed prompts count in none.

    Raises:
        InvalidRequestError: if no prompt was answered.
    """
    kept = [sample for sample in samples if not sample.failed]
    place = {prompt: index for index, prompt in enumerate(sorted({sample.prompt for sample in kept}))}
    draws = prompt_draws(len(place), seed)
    totals = {result.row: np.zeros((len(place), len(_FIELDS))) for result in results}
    for sample in kept:
        totals[sample.policy][place[sample.prompt]] = [getattr(sample, name) for name in _FIELDS]
    # [resample, field]; the whole run's totals stand in front.
    drawn = {row: np.vstack([values.sum(axis=0), draws @ values]) for row, values in totals.items()}
    hlm = next((result.row for result in results if result.policy == HLM), None)
    hlm_energy = None if hlm is None else _hlm_energy(drawn[hlm])
    dense_bit = vocabulary_size * 32
    return {result.row: _row(result, drawn[result.row], hlm_energy, dense_bit) for result in results}


def _row(result: PolicyResult, drawn: Floats, hlm_energy: Floats | None, dense_bit: int) -> RatioIntervals:
    tokens, uploaded, rejected, model_bits, latency_s, llm_forwards = drawn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        saving = None
        if result.energy_saving_ratio is not None and hlm_energy is not None:
            uplink = model_bits / dense_bit * DENSE32_LOAD * UPLOAD_COST
            energy = (uplink + rejected * REJECT_COST) / tokens + TOKEN_COST
            saving = 1.0 - energy / hlm_energy
        return RatioIntervals(
            _interval(result.throughput_tok_s, tokens / latency_s),
            _interval(result.throughput_paper_tok_s, 1.0 / (PAPER.draft_s + uploaded / tokens * PAPER.round_s)),
            _interval(result.energy_saving_ratio, saving),
            _interval(result.llm_forwards_per_token, llm_forwards / tokens),
        )


def _hlm_energy(drawn: Floats) -> Floats:
    tokens, uploaded, rejected = drawn.T[:3]
    with np.errstate(divide="ignore", invalid="ignore"):
        energy: Floats = (uploaded * DENSE32_LOAD * UPLOAD_COST + rejected * REJECT_COST) / tokens + TOKEN_COST
    return energy


def _interval(value: float | None, drawn: Floats | None) -> Interval | None:
    """Return the interval of the resamples around a value; a draw without any token of the row says nothing."""
    if value is None or drawn is None:
        return None
    resampled = drawn[1:][np.isfinite(drawn[1:])]
    if not resampled.size:
        return None
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Interval(value, float(low), float(high))
