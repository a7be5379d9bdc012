"""How good a rule is: rejection caught at every upload rate, and the area under that curve.

    AUC = ∫₀¹ caught(r) dr      chance ½;  the oracle, which knows β, the most there is
    way = (AUC − ½) / (AUC_oracle − ½)

`caught` is that of `uihlm_evaluation.calibration.capture`. Intervals resample the prompts, the same for all rules, and each
resample has its own oracle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.calibration.capture import captured, gain
from uihlm_evaluation.calibration.resampling import Estimates, FloatArray, Resampler
from uihlm_evaluation.calibration.trace import TraceError
from uihlm_evaluation.quality.bootstrap import Interval
from uihlm_evaluation.traces.manifest import Manifest
from uihlm_evaluation.traces.pack import Side, TracePack
from uihlm_evaluation.traces.policies import PREFIX, decisions
from uihlm_evaluation.traces.rules import ORACLE, RANDOM, Seen, numbers

RATES = tuple(round(0.05 * step, 2) for step in range(1, 20))

# Where the curve is taken for its area.
_GRID = np.linspace(0.0, 1.0, 101)
BASELINE = "u"
# Scored whatever is asked for.
BESIDE = (BASELINE, RANDOM)


@dataclass(frozen=True, slots=True)
class CaughtAt:
    """A rule at one upload rate.

    Attributes:
        rate: share of tokens uploaded.
        caught: share of all rejection among them.
    """

    rate: float
    caught: Interval


@dataclass(frozen=True, slots=True)
class Score:
    """A rule at every upload rate.

    Attributes:
        rule: its name.
        auc: area under the curve.
        way: how far from chance to the oracle that is, 0…1.
        gain: of the area over that of u, paired over prompts.
        rates: at 5, 10 … 95 % uploaded.
    """

    rule: str
    auc: Interval
    way: Interval
    gain: Interval
    rates: tuple[CaughtAt, ...]

    def caught(self, rate: float) -> Interval:
        """Return the share caught at one of `RATES`."""
        return next(point.caught for point in self.rates if point.rate == rate)


@dataclass(frozen=True, slots=True)
class PolicyScore:
    """A policy at its own upload rate.

    Attributes:
        policy: its name.
        upload_rate: share of tokens uploaded; also what chance would catch.
        caught: share of all rejection among them; None if nothing is uploaded.
        reject_rate: mean rejection probability of the uploaded; None likewise.
        oracle: what the oracle catches at that rate.
    """

    policy: str
    upload_rate: Interval
    caught: Interval | None
    reject_rate: Interval | None
    oracle: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What was scored, and on what.

    Attributes:
        side: of the pack.
        prompts, tokens: of that side.
        mean_rejection: mean rejection probability.
        rules: best area first; u, chance and the oracle are always among them.
        policies: in the order they were asked for.
    """

    side: str
    prompts: int
    tokens: int
    mean_rejection: Interval
    rules: tuple[Score, ...]
    policies: tuple[PolicyScore, ...]

    def to_json(self, manifest: Manifest) -> dict[str, Any]:
        """Return the object that `--format json` prints, with what identifies the pack."""
        pack = {
            name: getattr(manifest, name)
            for name in ("dataset", "prompts_digest", "seed", "held_out_share", "slm", "llm", "format")
        }
        return {"pack": pack, **dataclasses.asdict(self)}


def score(
    pack: TracePack,
    names: Sequence[str],
    side: Side = Side.HELD_OUT,
    seed: int = 0,
    settings: PolicySettings = PolicySettings(),
) -> Scores:
    """Score rules and policies on one side of a pack; u, chance and the oracle stand beside them.

    Args:
        pack: the trace.
        names: of rules, `policy:NAME` for policies.
        side: whose tokens are scored; a rule that is fitted is fitted to the train side in any case.
        seed: of the resamples.
        settings: the knobs of the policies.

    Raises:
        RuleError: if a name is unknown, or a rule gives no numbers.
        TraceError: if the side is empty, nothing on it could be rejected, or a rule needs what the pack lacks.
    """
    trace = pack.side(side)
    beta = trace.reject_prob.astype(np.float64)
    if not beta.any():
        raise TraceError(
            f"no token of the pack's {side.value} side could have been rejected: there is nothing to catch"
        )
    seen = Seen.of(trace)
    rules = {
        name: numbers(name, lambda: pack.side(Side.TRAIN), seen)
        for name in dict.fromkeys((*names, *BESIDE))
        if not name.startswith(PREFIX) and name != ORACLE
    }
    rules[ORACLE] = beta
    # One pass for both: the curve for its area, the rates to print.
    estimates = captured(rules, beta, trace.prompt, (*_GRID, *RATES), seed)
    areas = {name: _area(curve) for name, curve in estimates.items()}
    resampler = Resampler(trace.prompt, seed)
    scores = [_score(name, areas, estimates[name]) for name in rules]
    return Scores(
        side=side.value,
        prompts=resampler.prompts,
        tokens=len(trace),
        mean_rejection=resampler.mean(trace.reject_prob),
        rules=tuple(sorted(scores, key=lambda entry: -entry.auc.mean)),
        policies=tuple(
            _policy_score(name, decisions(name, trace, pack.manifest.seed, settings), beta, resampler)
            for name in (entry.removeprefix(PREFIX) for entry in names if entry.startswith(PREFIX))
        ),
    )


def _area(curve: Estimates) -> Estimates:
    width = len(_GRID)
    point, draws = curve.point[:width], curve.draws[:, :width]
    return Estimates(np.asarray(np.trapezoid(point, _GRID)), np.asarray(np.trapezoid(draws, _GRID, axis=1)))


def _score(name: str, areas: Mapping[str, Estimates], curve: Estimates) -> Score:
    area, most = areas[name], areas[ORACLE]
    # Where every token is as likely to be rejected as any other, there is no way to go.
    with np.errstate(divide="ignore", invalid="ignore"):
        way = Estimates((area.point - 0.5) / (most.point - 0.5), (area.draws - 0.5) / (most.draws - 0.5))
    return Score(
        rule=name,
        auc=area.interval,
        way=way.interval,
        gain=gain(area, areas[BASELINE]).interval,
        rates=tuple(map(CaughtAt, RATES, curve.intervals()[len(_GRID) :])),
    )


def _policy_score(name: str, uploaded: npt.NDArray[np.bool_], beta: FloatArray, resampler: Resampler) -> PolicyScore:
    caught = uploaded * beta
    rate = resampler.mean(uploaded)
    best = np.sort(beta)[::-1]
    whole = np.concatenate([[0.0], np.cumsum(best)]) / beta.sum()
    return PolicyScore(
        policy=name,
        upload_rate=rate,
        caught=resampler.ratio(caught, beta) if uploaded.any() else None,
        reject_rate=resampler.ratio(caught, uploaded),
        oracle=float(np.interp(rate.mean, np.linspace(0.0, 1.0, len(whole)), whole)),
    )
