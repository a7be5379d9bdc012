"""How often the importance rule uploads, and whether what it counts has to do with rejection; which layer to read.

    rate[l, A, γ, k] = share of tokens with count[l, A, γ] ≥ k        (Eq. 6–7 of arXiv:2508.12590)

The default layer, a rule that looks at no quality and no rejection: of all layers, that whose rates in the `heads`
reading at γ = 1 lie nearest to the paper's (mean absolute difference over k = 3, 5, 7, 9, 11); but the layer at 0.85 of
the depth stands unless another is nearer by more than its 95 % interval. What is copied is thus how often the paper's
rule fires, on models whose attention is not the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uihlm_device.drafters.loading import default_layer
from uihlm_device.rules.importance import Readout
from uihlm_evaluation.calibration.law import correlation
from uihlm_evaluation.calibration.layers import KS
from uihlm_evaluation.calibration.resampling import FloatArray, Resampler
from uihlm_evaluation.calibration.trace import Trace, TraceError
from uihlm_evaluation.quality.bootstrap import Interval

# Table I of arXiv:2508.12590, policy i at γ = 1: upload rate by k.
PAPER_UPLOAD_RATES = {3: 0.7008, 5: 0.4598, 7: 0.2044, 9: 0.0904, 11: 0.0483}
PAPER_GAMMA = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """The importance rule at one layer, in one reading, with one γ.

    Attributes:
        layer, readout, gamma: which.
        correlation: Pearson's, between count and rejection probability; 0 if the count never changes.
        upload_rates: (k, share of tokens with count ≥ k).
    """

    layer: int
    readout: str
    gamma: float
    correlation: Interval
    upload_rates: tuple[tuple[int, Interval], ...]


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """The layer to read.

    Attributes:
        layer: the choice.
        default: the layer at 0.85 of the depth.
        nearest: the layer whose rates are nearest to the paper's.
        distance: of each layer's rates to the paper's, `[layer]`, 0…1.
        gain: distance of the default layer less that of the nearest, paired over prompts.
    """

    layer: int
    default: int
    nearest: int
    distance: tuple[Interval, ...]
    gain: Interval

    def reason(self) -> str:
        """Return why, in words."""
        shown = f"{self.gain.mean:.3f} [{self.gain.low:.3f}, {self.gain.high:.3f}]"
        if self.nearest == self.default:
            return f"layer {self.layer}: at 0.85 of the depth, and nearest to the paper's upload rates"
        if self.layer == self.nearest:
            return f"layer {self.layer}: nearer to the paper's upload rates than layer {self.default} by {shown}"
        return f"layer {self.layer}: at 0.85 of the depth; layer {self.nearest} is nearer by only {shown}"


def curves(trace: Trace, resampler: Resampler) -> tuple[Curve, ...]:
    """Return the curves of every layer, reading and γ of a trace, in that order."""
    shape = trace.counts.shape[1:]
    counts = trace.counts.reshape(len(trace), -1).astype(np.float64)
    correlations = correlation(trace.reject_prob.astype(np.float64), counts, resampler)
    rates = [_rates(counts >= k, resampler) for k in KS]
    return tuple(
        Curve(
            layer=layer,
            readout=trace.header.readouts[readout],
            gamma=trace.header.gammas[gamma],
            correlation=correlations[i],
            upload_rates=tuple((k, rate[i]) for k, rate in zip(KS, rates, strict=True)),
        )
        for i, (layer, readout, gamma) in enumerate(np.ndindex(*shape))
    )


def _rates(passes: np.ndarray, resampler: Resampler) -> list[Interval]:
    return resampler.estimate(lambda s: s[..., 1:] / s[..., :1], np.ones(len(passes)), passes).intervals()


def choose_layer(trace: Trace, resampler: Resampler) -> LayerChoice:
    """Return the layer to read, by the rule above.

    Raises:
        TraceError: if the trace lacks the `heads` reading at γ = 1.
    """
    try:
        readout = trace.header.readouts.index(Readout.HEADS.value)
        gamma = trace.header.gammas.index(PAPER_GAMMA)
    except ValueError as error:
        raise TraceError("choosing a layer needs the `heads` reading at γ = 1 in the trace") from error
    counts = trace.counts[:, :, readout, gamma]
    layers, ks = trace.n_layer, list(PAPER_UPLOAD_RATES)
    paper = np.array(list(PAPER_UPLOAD_RATES.values()))

    def distance(s: FloatArray) -> FloatArray:
        rates = (s[..., 1:] / s[..., :1]).reshape(*s.shape[:-1], layers, len(ks))
        mean: FloatArray = np.abs(rates - paper).mean(axis=-1)
        return mean

    passes = (counts[:, :, None] >= np.array(ks)).reshape(len(trace), -1)
    estimates = resampler.estimate(distance, np.ones(len(trace)), passes)
    default, nearest = default_layer(layers), int(np.argmin(estimates.point))
    low, high = np.percentile(estimates.draws[:, default] - estimates.draws[:, nearest], (2.5, 97.5))
    gain = Interval(float(estimates.point[default] - estimates.point[nearest]), float(low), float(high))
    # One prompt has no interval: every resample of it is the same.
    layer = nearest if gain.low > 0.0 and resampler.prompts > 1 else default
    return LayerChoice(layer, default, nearest, tuple(estimates.intervals()), gain)
