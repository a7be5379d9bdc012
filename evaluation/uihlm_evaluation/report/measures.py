"""What is compared between rows: sums by prompt, and ratios of their totals with intervals.

    ratio = Σ_p a_p / Σ_p b_p,     p drawn anew with replacement for each of the bootstrap's resamples

Only prompts that every row answered count, so that all rows are compared on the same ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uihlm_device.tokens import Origin
from uihlm_evaluation.quality.bootstrap import Interval, prompt_draws
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.rounds import Rounds
from uihlm_evaluation.results.policy_result import PolicyResult
from uihlm_evaluation.results.scores import Scores
from uihlm_evaluation.runs.samples import Sample

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RowMeasures:
    """One row, prompt by prompt, `[n]` each.

    Attributes:
        result: the row's entry in results.json: its label, policy and knobs.
        tokens: tokens of the answer.
        uploaded: drafts judged.
        rejected: those rejected.
        caught: rejections caught; see `Study.expected`.
        llm_forwards: forwards of the LLM.
        llm_positions: positions these ran.
        model_bits: the paper's B, summed.
        payload_bits: codec payloads and skipped ids.
        latency_s: seconds of the answer.
        quality: BERTScore F1, NaN where there is none.
        theta_c: the threshold on 1 − x_d that would have uploaded as many of this row's drafts; None without x_d.
        thinning: uploads ÷ drafts above the row's θ_u; None for a row that computes no u.
    """

    result: PolicyResult
    tokens: Floats
    uploaded: Floats
    rejected: Floats
    caught: Floats
    llm_forwards: Floats
    llm_positions: Floats
    model_bits: Floats
    payload_bits: Floats
    latency_s: Floats
    quality: Floats
    theta_c: float | None = None
    thinning: float | None = None

    @property
    def label(self) -> str:
        """The row's label."""
        return self.result.row

    @property
    def upload_rate(self) -> float:
        """Uploaded ÷ tokens over the prompts compared; 0 without tokens, and for `llm`, which drafts nothing."""
        total = float(self.tokens.sum())
        return float(self.uploaded.sum()) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Study:
    """The rows of a run on the prompts that all of them answered.

    Attributes:
        prompts: their indices, in order.
        rows: in the order of the table.
        expected: whether `caught` sums rejection probabilities of the uploaded drafts; else it counts rejections,
            because the verdicts of this run tell no probability.
        left_out: labels of rows that answered no prompt.
        seed: of the bootstrap.
    """

    prompts: tuple[int, ...]
    rows: tuple[RowMeasures, ...]
    expected: bool
    left_out: tuple[str, ...] = ()
    seed: int = 0

    def of_policy(self, policy: str) -> tuple[RowMeasures, ...]:
        """Return the rows of a policy."""
        return tuple(row for row in self.rows if row.result.policy == policy)


def measure(folder: RunFolder, scores: Scores) -> Study:
    """Return the sums by prompt of every row of a run; `scores` may be empty."""
    answered = {(sample.policy, sample.prompt): sample for sample in folder.samples if not sample.failed}
    labels = [result.row for result in folder.results]
    by_row = {label: {prompt for row, prompt in answered if row == label} for label in labels}
    kept = [label for label in labels if by_row[label]]
    prompts = tuple(sorted(set.intersection(*(by_row[label] for label in kept)))) if kept else ()
    expected, caught = _caught(folder.rounds, prompts)
    rows = []
    for code, result in enumerate(folder.results):
        if result.row not in kept:
            continue
        samples = [answered[result.row, prompt] for prompt in prompts]
        quality = [scores.get((result.row, prompt), {}).get("bertscore_f1", math.nan) for prompt in prompts]
        theta_c, thinning = _matches(folder.rounds, code, result)
        rows.append(_row(result, samples, caught[code], np.array(quality, dtype=np.float64), theta_c, thinning))
    seed = int(folder.document["config"]["selection"]["seed"]) % 2**64
    return Study(prompts, tuple(rows), expected, tuple(label for label in labels if label not in kept), seed)


def _row(
    result: PolicyResult,
    samples: list[Sample],
    caught: Floats,
    quality: Floats,
    theta_c: float | None,
    thinning: float | None,
) -> RowMeasures:
    def sums(name: str) -> Floats:
        return np.array([getattr(sample, name) for sample in samples], dtype=np.float64)

    return RowMeasures(
        result=result,
        tokens=sums("tokens"),
        uploaded=sums("uploaded"),
        rejected=sums("rejected"),
        caught=caught,
        llm_forwards=sums("llm_forwards"),
        llm_positions=sums("llm_positions"),
        model_bits=sums("model_bits"),
        payload_bits=sums("payload_bits"),
        latency_s=sums("latency_s"),
        quality=quality,
        theta_c=theta_c,
        thinning=thinning,
    )


def _caught(rounds: Rounds, prompts: tuple[int, ...]) -> tuple[bool, Floats]:
    """Return (whether they are expected ones, rejections caught `[rows, n]`)."""
    known = np.array(prompts, dtype=np.int64)
    cells = len(rounds.labels) * len(known)
    judged = (rounds.column("uploaded") == 1.0) & np.isin(rounds.prompt, known)
    place = rounds.row[judged] * len(known) + np.searchsorted(known, rounds.prompt[judged])
    risk = rounds.column("reject_prob")[judged]
    expected = not bool(np.isnan(risk).any())
    if not expected:
        names = [name == Origin.RESAMPLED.value for name in rounds.origins]
        risk = np.array(names, dtype=np.float64)[rounds.origin[judged]]
    sums: Floats = np.bincount(place, risk, cells).astype(np.float64)
    return expected, sums.reshape(len(rounds.labels), len(known))


def _matches(rounds: Rounds, code: int, result: PolicyResult) -> tuple[float | None, float | None]:
    """Return θ_c and thinning of a row; see `RowMeasures`."""
    own = rounds.row == code
    x_d = rounds.column("x_d")[own]
    x_d = x_d[~np.isnan(x_d)]
    rate = result.upload_rate
    theta_c = float(np.quantile(1.0 - x_d, 1.0 - rate)) if x_d.size and rate is not None else None
    above = 0
    if result.theta_u is not None:
        above = int((rounds.column("u")[own] > result.theta_u).sum())
    uploads = float((rounds.column("uploaded")[own] == 1.0).sum())
    return theta_c, uploads / above if above else None


def interval(statistic: Callable[[Floats], Floats], columns: Floats, seed: int = 0) -> Interval | None:
    """Return a function of totals over prompts with its 95 % percentile bootstrap interval.

    Args:
        statistic: from totals `[m, b]` to values `[b]`.
        columns: m values a prompt, `[m, n]`.
        seed: of the resampling; prompts of all columns are drawn together, so a difference of two rows is paired.

    Returns:
        The interval; None without prompts or where the statistic does not exist (a ratio to nothing).
    """
    n = columns.shape[1]
    if n == 0:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = float(statistic(columns.sum(axis=1, keepdims=True))[0])
        values = statistic(columns @ _weights(n, seed))
    # A draw of prompts without a single upload has no ratio of uploads, and says nothing of it.
    values = values[np.isfinite(values)]
    if not math.isfinite(mean) or not values.size:
        return None
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(mean, float(low), float(high))


def ratio_interval(part: Floats, whole: Floats, seed: int = 0) -> Interval | None:
    """Return Σ part / Σ whole over prompts, `[n]` each, with its interval; None where the ratio does not exist."""
    return interval(lambda totals: totals[0] / totals[1], np.stack([part, whole]), seed)


@functools.lru_cache(maxsize=4)
def _weights(n: int, seed: int) -> Floats:
    """Return how often each resample holds each prompt, `[n, RESAMPLES]`."""
    return prompt_draws(n, seed).T
