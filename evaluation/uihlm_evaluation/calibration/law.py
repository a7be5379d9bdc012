"""The law that U-HLM found: the rejection probability grows linearly with the uncertainty.

    β ≈ a·u + b        (a, b) = least squares over all tokens        (arXiv:2412.12687)

β is the rejection probability 1 − min(1, y_d/x_d) of a draft, which the verdict tells. Fitted against the outcome (0 or
1) instead, a and b have the same expectation and a wider spread; both fits are reported. Whether the law *holds* is
another question than its slope: R² of the bin means says how near the mean rejection of a bin of u lies to the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uihlm_evaluation.calibration.resampling import FloatArray, Resampler
from uihlm_evaluation.calibration.trace import Trace
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_proto.errors import InvalidRequestError

BINS = 20
# The bundled pair has 0.96 over 5,443 tokens; the noise of small bins lowers it, so it is no threshold for few tokens.
MIN_R2 = 0.8
FEW_TOKENS = 1500


@dataclass(frozen=True, slots=True)
class Line:
    """A least-squares line.

    Attributes:
        a, b: slope and intercept.
        correlation: Pearson's, between u and what is fitted.
        r2_bins: share of the variance between the means of the bins of u that the line explains, tokens as weights.
    """

    a: Interval
    b: Interval
    correlation: Interval
    r2_bins: Interval


@dataclass(frozen=True, slots=True)
class Bin:
    """The tokens of one bin of u.

    Attributes:
        low, high: its edges.
        tokens: how many fell in.
        u: their mean uncertainty.
        reject_prob: their mean rejection probability.
        rejected: share of them that was rejected.
    """

    low: float
    high: float
    tokens: int
    u: float
    reject_prob: Interval
    rejected: Interval


@dataclass(frozen=True, slots=True)
class Law:
    """What the uncertainty says about rejection.

    Attributes:
        tokens, prompts: fitted.
        probability: line through the rejection probabilities: the a and b that thresholds come from.
        outcome: line through the outcomes, 0 or 1.
        mean_rejection: mean rejection probability, one Δ of the risk-prone threshold.
        share_below: P(y_d < x_d), the other.
        reliability: the bins that hold tokens.
    """

    tokens: int
    prompts: int
    probability: Line
    outcome: Line
    mean_rejection: Interval
    share_below: Interval
    reliability: tuple[Bin, ...]

    def warnings(self) -> list[str]:
        """Return, in words, each way in which the law does not hold."""
        found = self._breaches()
        if found and self.tokens < FEW_TOKENS:
            found.append(f"{self.tokens} tokens are too few to tell noise from a broken law: calibrate on more prompts")
        return found

    def _breaches(self) -> list[str]:
        line = self.probability
        found = []
        if line.a.low <= 0.0:
            found.append(
                f"the law does not hold: rejection does not grow with u (a = {_shown(line.a)}); a threshold on u is no "
                "better than a coin for this pair"
            )
        if line.r2_bins.mean < MIN_R2:
            found.append(
                f"the law does not hold: a line explains {line.r2_bins.mean:.2f} of the variance between bins of u "
                f"(R² below {MIN_R2}); look at the reliability plot before using these thresholds"
            )
        if line.b.mean > 0.0:
            found.append(
                f"the law does not hold: b = {_shown(line.b)} is above 0, so that even tokens of u = 0 are rejected and the "
                "risk-averse threshold uploads everything"
            )
        return found


def _shown(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def fit(trace: Trace, resampler: Resampler) -> Law:
    """Return the law of a trace.

    Raises:
        InvalidRequestError: if u is the same for every token.
    """
    u = trace.exact_u
    if np.ptp(u) == 0.0:
        raise InvalidRequestError(
            f"the uncertainty is {u[0]:g} for each of {len(u)} tokens: no line can be fitted; calibrate at a sampling "
            "temperature above 0 and on more prompts"
        )
    probability, outcome = trace.reject_prob.astype(np.float64), trace.rejected.astype(np.float64)
    return Law(
        tokens=len(trace),
        prompts=resampler.prompts,
        probability=_line(u, probability, resampler),
        outcome=_line(u, outcome, resampler),
        mean_rejection=resampler.mean(probability),
        share_below=resampler.mean(trace.y_d < trace.x_d),
        reliability=_reliability(u, probability, outcome, resampler),
    )


def moments(u: FloatArray, beta: FloatArray) -> list[FloatArray]:
    """Return the columns whose sums `slope_intercept` reads."""
    return [np.ones_like(u), u, beta, u * u, u * beta]


def slope_intercept(s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (a, b) of sums `[..., 5]` of n, u, β, u², uβ."""
    n, su, sb, suu, sub = (s[..., i] for i in range(5))
    a = (n * sub - su * sb) / (n * suu - su * su)
    return a, (sb - a * su) / n


def _line(u: FloatArray, beta: FloatArray, resampler: Resampler) -> Line:
    columns = moments(u, beta)
    member = _membership(u)

    def r2(s: FloatArray) -> FloatArray:
        a, b = slope_intercept(s)
        n, su, sb = (s[..., 5 + i * BINS : 5 + (i + 1) * BINS] for i in range(3))
        filled = n > 0
        mean_u = np.divide(su, n, out=np.zeros_like(su), where=filled)
        mean_b = np.divide(sb, n, out=np.zeros_like(sb), where=filled)
        residual = mean_b - a[..., None] * mean_u - b[..., None]
        spread = mean_b - (s[..., 2] / s[..., 0])[..., None]
        total = (n * spread**2).sum(axis=-1)
        unexplained = (n * residual**2).sum(axis=-1)
        # Bins that all have one mean leave nothing to explain.
        return np.where(total > 0, 1.0 - unexplained / total, 0.0)

    binned = [member, member * u[:, None], member * beta[:, None]]
    return Line(
        a=resampler.estimate(lambda s: slope_intercept(s)[0], *columns).interval,
        b=resampler.estimate(lambda s: slope_intercept(s)[1], *columns).interval,
        correlation=correlation(u, beta[:, None], resampler)[0],
        r2_bins=resampler.estimate(r2, *columns, *binned).interval,
    )


def correlation(x: FloatArray, others: FloatArray, resampler: Resampler) -> list[Interval]:
    """Return Pearson's correlation of x `[T]` with each column of `others` `[T, m]`; 0 where a column is constant."""
    m = others.shape[1]

    def pearson(s: FloatArray) -> FloatArray:
        n, sx, sxx = (s[..., i, None] for i in range(3))
        so, soo, sxo = (s[..., 3 + i * m : 3 + (i + 1) * m] for i in range(3))
        variances = (n * sxx - sx**2) * (n * soo - so**2)
        # Sums of squares leave a last bit where a column is constant.
        exists = variances > 1e-12 * (n * sxx) * (n * soo)
        root = np.sqrt(np.where(exists, variances, 1.0))
        return np.where(exists, (n * sxo - sx * so) / root, 0.0)

    return resampler.estimate(pearson, np.ones_like(x), x, x * x, others, others**2, others * x[:, None]).intervals()


def _membership(u: FloatArray) -> FloatArray:
    """Return `[T, bin]`, 1 where a token's u falls into a bin of width 1/BINS."""
    member: FloatArray = np.eye(BINS)[np.clip((u * BINS).astype(int), 0, BINS - 1)]
    return member


def _reliability(u: FloatArray, probability: FloatArray, outcome: FloatArray, resampler: Resampler) -> tuple[Bin, ...]:
    member = _membership(u)
    bins = []
    for i in np.flatnonzero(member.any(axis=0)):
        inside = member[:, i]
        means: list[Interval | None] = [resampler.ratio(inside * values, inside) for values in (probability, outcome)]
        chance, share = means
        assert chance is not None and share is not None, "the bin holds tokens"
        count = int(inside.sum())
        bins.append(Bin(i / BINS, (i + 1) / BINS, count, float((inside * u).sum() / count), chance, share))
    return tuple(bins)
