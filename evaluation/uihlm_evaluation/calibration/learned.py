"""A rejection predictor on the drafter's hidden state: trained on a trace, judged on prompts it has not seen.

    β̂ = σ(c + Σ_j v_j·(P·h)_j + w_u·u + w_uu·u² + w_x·x_d)        v, w: logistic regression on β, ridge on v and w

P are the first principal components of the standardised hidden states; P and v fold into one number a hidden unit
(`uihlm_device.rules.predictor`). Prompts are dealt into folds, and every token is scored by weights fitted without its prompt:
tokens of one answer are alike, so a split by token would reward remembering prompts. The verdict is one comparison, fixed
before looking: rejection caught at one upload rate, against u. The intervals resample prompts and leave out the spread of
the training.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_device.rules.predictor import Origin, Predictor
from uihlm_evaluation.calibration.capture import captured, gain
from uihlm_evaluation.calibration.resampling import FloatArray
from uihlm_evaluation.calibration.trace import Trace, TraceError
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.whole_files import write_whole

LEARNED, COMPARISON = "learned.npz", "learned.json"
FOLDS = 10
# The best of four choices on the trace of the bundled pair (docs/experiments.md), which hardly differed.
COMPONENTS = 16
RIDGE = 30.0
RATES = tuple(round(0.05 * step, 2) for step in range(1, 20))
SHARES = (0.25, 0.5, 1.0)

_STEPS = 12


class Verdict(enum.StrEnum):
    """What the interval of the gain over u says."""

    BETTER = "better"
    NO_DIFFERENCE = "no difference shown"
    WORSE = "worse"

    @classmethod
    def of(cls, gain: Interval) -> Verdict:
        """Return the verdict: outside of the interval lies 0, or not."""
        return cls.BETTER if gain.low > 0.0 else cls.WORSE if gain.high < 0.0 else cls.NO_DIFFERENCE


@dataclass(frozen=True, slots=True)
class Caught:
    """A rule at an upload rate.

    Attributes:
        rate: share of tokens uploaded.
        caught: share of all rejection among them.
        gain: less what u catches at this rate, paired over prompts.
    """

    rate: float
    caught: Interval
    gain: Interval


@dataclass(frozen=True, slots=True)
class RuleCurve:
    """A rule at the wanted rate, and at every other."""

    rule: str
    wanted: Caught
    rates: tuple[Caught, ...]


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """The gain over u at the wanted rate with fewer prompts to train on.

    Attributes:
        share: of each fold's training prompts.
        tokens: trained on, mean over folds.
        gain: as in `Caught`.
    """

    share: float
    tokens: float
    gain: Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """The predictor against the rules that need no training, on held-out prompts.

    Attributes:
        upload_rate: the rate wanted, at which the verdict is given.
        verdict: of the gain over u at that rate.
        prompts, tokens, folds: of the held-out evaluation.
        components, ridge: of the regression.
        rules: `learned`, u, confidence (1 − x_d), entropy, random (chance), oracle (β itself).
        learning: by share of the training prompts.
    """

    upload_rate: float
    verdict: Verdict
    prompts: int
    tokens: int
    folds: int
    components: int
    ridge: float
    rules: tuple[RuleCurve, ...]
    learning: tuple[LearningPoint, ...]

    @property
    def kept(self) -> bool:
        """Whether the predictor has shown that it is worth having."""
        return self.verdict is Verdict.BETTER

    @property
    def learned(self) -> RuleCurve:
        """The predictor's curve."""
        return self.rules[0]

    def sentence(self) -> str:
        """Return the outcome in words."""
        difference = self.learned.wanted.gain
        shown = f"{100 * difference.mean:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
        head = f"learned against u at {100 * self.upload_rate:.1f} % uploaded: {self.verdict.value}, {shown} of all rejection"
        if self.kept:
            return f"{head}; kept: the profile points to {LEARNED}, and policy `learned` takes it from --profile"
        return f"{head}; not kept: the profile leaves it out (to try it all the same: --learned with the path of {LEARNED})"

    def save(self, folder: Path) -> None:
        """Write `learned.json` into a folder."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(folder / COMPARISON, text)

    def to_json(self) -> dict[str, Any]:
        """Return the object of `learned.json`."""
        return {"kept": self.kept, **dataclasses.asdict(self)}


def train(trace: Trace, upload_rate: float) -> Predictor:
    """Return weights fitted to a whole trace, with the threshold that uploads that share of it.

    Raises:
        TraceError: if the trace holds no hidden states.
    """
    predictor = _fitted(trace, np.ones(len(trace), np.bool_))
    scores = _scores(predictor, trace, np.ones(len(trace), np.bool_))
    return dataclasses.replace(predictor, threshold=float(np.quantile(scores, 1.0 - upload_rate)))


def compare(trace: Trace, upload_rate: float, seed: int = 0) -> Comparison:
    """Return how the predictor does on prompts it was not trained on.

    Raises:
        TraceError: if the trace holds no hidden states, fewer than two prompts, or no rejection.
    """
    fold = folds(trace.prompt, seed)
    beta = trace.reject_prob.astype(np.float64)
    if not beta.any():
        raise TraceError("no token of the trace could have been rejected: there is nothing to foresee")
    held_out = {share: _held_out(trace, fold, share, seed) for share in SHARES}
    rules = {
        "learned": held_out[1.0][0],
        "u": trace.u.astype(np.float64),
        "confidence": 1.0 - trace.x_d.astype(np.float64),
        "entropy": trace.entropy_nat.astype(np.float64),
        "random": np.zeros(len(trace)),
        "oracle": beta,
    }
    fewer = {f"{share}": scores for share, (scores, _) in held_out.items()}
    estimates = captured({**rules, **fewer}, beta, trace.prompt, (upload_rate, *RATES), seed)
    curves = []
    for name in rules:
        caught, gains = estimates[name].intervals(), gain(estimates[name], estimates["u"]).intervals()
        points = tuple(map(Caught, (upload_rate, *RATES), caught, gains))
        curves.append(RuleCurve(name, points[0], points[1:]))
    learning = tuple(
        LearningPoint(share, tokens, gain(estimates[f"{share}"], estimates["u"]).intervals()[0])
        for share, (_, tokens) in held_out.items()
    )
    return Comparison(
        upload_rate=upload_rate,
        verdict=Verdict.of(curves[0].wanted.gain),
        prompts=len(np.unique(trace.prompt)),
        tokens=len(trace),
        folds=int(fold.max()) + 1,
        components=COMPONENTS,
        ridge=RIDGE,
        rules=tuple(curves),
        learning=learning,
    )


def folds(prompt: npt.NDArray[np.int32], seed: int = 0) -> npt.NDArray[np.int_]:
    """Return the fold of each token `[T]`: prompts are dealt out at random, and no prompt is in two folds.

    Raises:
        TraceError: if there are fewer than two prompts.
    """
    _, index = np.unique(prompt, return_inverse=True)
    prompts = int(index.max()) + 1
    if prompts < 2:
        raise TraceError("one prompt cannot be held out and trained on: calibrate on more prompts")
    dealt: npt.NDArray[np.int_] = np.random.default_rng(seed % 2**64).permutation(prompts) % min(FOLDS, prompts)
    return dealt[index]


def _held_out(trace: Trace, fold: npt.NDArray[np.int_], share: float, seed: int) -> tuple[FloatArray, float]:
    """Return every token's score by weights that never saw its prompt, and how many tokens those were fitted to."""
    scores, trained = np.zeros(len(trace)), []
    generator = np.random.default_rng([seed % 2**64, 1])
    for held in range(int(fold.max()) + 1):
        others = generator.permutation(np.unique(trace.prompt[fold != held]))
        rows = np.isin(trace.prompt, others[: max(1, round(share * len(others)))])
        scores[fold == held] = _scores(_fitted(trace, rows), trace, fold == held)
        trained.append(int(rows.sum()))
    return scores, float(np.mean(trained))


def _fitted(trace: Trace, rows: npt.NDArray[np.bool_]) -> Predictor:
    """Return weights fitted to some rows, without a threshold yet."""
    hidden = _hidden(trace)[rows]
    u, x_d = trace.u[rows].astype(np.float64), trace.x_d[rows].astype(np.float64)
    centre, spread = hidden.mean(axis=0), hidden.std(axis=0)
    spread[spread == 0.0] = 1.0
    standard = (hidden - centre) / spread
    variances, directions = np.linalg.eigh(standard.T @ standard / len(standard))
    # Directions without variance carry nothing; eigh puts the largest last.
    top = np.flatnonzero(variances > 1e-6 * variances[-1])[-COMPONENTS:]
    projection = directions[:, top] / np.sqrt(variances[top])
    scalars = np.column_stack([u, u * u, x_d])
    middle, scale = scalars.mean(axis=0), scalars.std(axis=0)
    scale[scale == 0.0] = 1.0
    weights = _logistic(
        np.column_stack([standard @ projection, (scalars - middle) / scale]), trace.reject_prob[rows].astype(np.float64)
    )
    of_hidden = (projection @ weights[1 : 1 + len(top)] / spread).astype(np.float32)
    w_u, w_uu, w_x = of_scalars = weights[1 + len(top) :] / scale
    header = trace.header
    return Predictor(
        hidden=of_hidden,
        scalars=(float(w_u), float(w_uu), float(w_x)),
        intercept=float(weights[0] - of_hidden.astype(np.float64) @ centre - of_scalars @ middle),
        threshold=0.0,
        origin=Origin(header.slm_sha256, header.llm_sha256, header.temperature, header.estimator),
    )


def _logistic(features: FloatArray, beta: FloatArray) -> FloatArray:
    """Return (c, weights) that minimise cross-entropy to β plus RIDGE/2 · |weights|², by Newton's method."""
    design = np.column_stack([np.ones(len(features)), features])
    ridge = np.full(design.shape[1], RIDGE)
    # A touch on the intercept keeps it finite where every β is 0.
    ridge[0] = 1e-3
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-design @ weights))
        curvature = (design * (p * (1.0 - p))[:, None]).T @ design + np.diag(ridge)
        weights -= np.linalg.solve(curvature, design.T @ (p - beta) + ridge * weights)
    return weights


def _scores(predictor: Predictor, trace: Trace, rows: npt.NDArray[np.bool_]) -> FloatArray:
    return predictor.reject_prob(_hidden(trace)[rows], trace.u[rows], trace.x_d[rows])


def _hidden(trace: Trace) -> npt.NDArray[np.float64]:
    if trace.hidden is None:
        raise TraceError("the trace holds no hidden states: calibrate anew with --hidden")
    return trace.hidden.astype(np.float64)
