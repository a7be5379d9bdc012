"""What calibration finds out from a trace: the law, the thresholds, the importance curves, and the knobs that follow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uihlm_device.rules.importance import Readout
from uihlm_evaluation.calibration.curves import Curve, LayerChoice, choose_layer, curves
from uihlm_evaluation.calibration.law import Law, fit
from uihlm_evaluation.calibration.profile import Profile, ProfileModel
from uihlm_evaluation.calibration.resampling import Resampler
from uihlm_evaluation.calibration.thresholds import Threshold, ThresholdOutcome, outcomes
from uihlm_evaluation.calibration.trace import Trace
from uihlm_evaluation.runs.provenance import collect
from uihlm_evaluation.whole_files import write_whole

CALIBRATION = "calibration.json"


@dataclass(frozen=True, slots=True)
class Choice:
    """The knobs that a user may fix in place of what calibration would choose.

    Attributes:
        threshold: which of the thresholds becomes θ_u.
        layer: None takes the one of the rule in `curves`.
        k, gamma: of the importance rule.
    """

    threshold: Threshold = Threshold.RISK_PRONE
    layer: int | None = None
    k: int = 3
    gamma: float = 1.0


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is read from a trace.

    Attributes:
        law: between u and rejection.
        thresholds: the three, with what each does.
        curves: of every layer, reading and γ.
        layer: the choice of layer.
    """

    law: Law
    thresholds: tuple[ThresholdOutcome, ...]
    curves: tuple[Curve, ...]
    layer: LayerChoice

    @classmethod
    def of(cls, trace: Trace, seed: int = 0) -> Findings:
        """Return the findings of a trace; `seed` is of the bootstrap."""
        resampler = Resampler(trace.prompt, seed)
        return cls(
            fit(trace, resampler), outcomes(trace, resampler), curves(trace, resampler), choose_layer(trace, resampler)
        )

    def threshold(self, name: Threshold) -> ThresholdOutcome:
        """Return the threshold of that name."""
        return next(outcome for outcome in self.thresholds if outcome.name is name)

    def curves_of(self, layer: int, readout: Readout = Readout.HEADS) -> list[Curve]:
        """Return the curves of one layer in one reading, one a γ."""
        return [curve for curve in self.curves if curve.layer == layer and curve.readout == readout.value]


def profile_of(
    findings: Findings, choice: Choice, trace: Trace, slm: ProfileModel, llm: ProfileModel, dataset: str
) -> Profile:
    """Return the profile that follows from the findings and the user's choice."""
    law, chosen = findings.law, findings.threshold(choice.threshold)
    thetas = [findings.threshold(name).theta_u for name in Threshold]
    return Profile(
        a=law.probability.a,
        b=law.probability.b,
        correlation=law.probability.correlation,
        r2_bins=law.probability.r2_bins,
        mean_rejection=law.mean_rejection,
        share_below=law.share_below,
        theta_risk_averse=thetas[0],
        theta_risk_prone=thetas[1],
        theta_risk_prone_below=thetas[2],
        threshold=choice.threshold.value,
        theta_u=None if chosen.theta_u is None else chosen.theta_u.mean,
        layer=findings.layer.layer if choice.layer is None else choice.layer,
        k=choice.k,
        gamma=choice.gamma,
        upload_rate=chosen.upload_rate,
        risk=chosen.risk,
        temperature=trace.header.temperature,
        top_k=trace.header.top_k,
        top_p=trace.header.top_p,
        estimator=trace.header.estimator,
        slm=slm,
        llm=llm,
        dataset=dataset,
        prompts=law.prompts,
        tokens=law.tokens,
        warnings=tuple(law.warnings()),
    )


def document(findings: Findings, profile: Profile, trace: Trace, failed: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """Return the object of `calibration.json`."""
    return {
        "profile": profile.contents(),
        "law": dataclasses.asdict(findings.law),
        "thresholds": [dataclasses.asdict(outcome) for outcome in findings.thresholds],
        "layer": {**dataclasses.asdict(findings.layer), "reason": findings.layer.reason()},
        "importance": [
            {
                **dataclasses.asdict(curve),
                "upload_rates": [{"k": k, **dataclasses.asdict(rate)} for k, rate in curve.upload_rates],
            }
            for curve in findings.curves
        ],
        "trace": {**dataclasses.asdict(trace.header), "layers": trace.n_layer, "hidden": trace.hidden is not None},
        "failed": [{"prompt": prompt, "error": error} for prompt, error in failed],
        "provenance": collect().to_json(),
    }


def write(output: Path, content: dict[str, Any]) -> None:
    """Write `calibration.json` into a folder."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(output / CALIBRATION, text)
