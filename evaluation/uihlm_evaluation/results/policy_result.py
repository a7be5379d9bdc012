"""What a policy run comes to: one object of `results.json`.

Counts, bits, joules and base-station seconds are totals over the prompts; rates are ratios of totals; what is a mean
over prompts carries its 95 % bootstrap interval. Prompts that failed are in none of them.

    upload_rate = l_u / l_s     reject_rate = l_r / l_u     λ = Eq. (3) at that upload rate     η = 1 - ē/ē_HLM
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uihlm_evaluation.quality.answers import AnswerScore
from uihlm_evaluation.quality.bootstrap import Interval, mean_interval
from uihlm_evaluation.results.totals import Bill, MeasuredTotals, Totals
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import Sample
from uihlm_proto.errors import InvalidRequestError

LLM = "llm"
HLM = "hlm"
_NEVER_SKIP = (LLM, HLM)


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """One policy run. Field by field the object of `results.json`; None is null there.

    Attributes:
        policy: its name.
        row: the label of its row, unique in the run; the policy's name where it stands once.
        k, gamma, theta_u, theta_c, rate: its knobs; None for those it does not read.
        prompts: prompts that did not fail.
        tokens: tokens of their answers.
        uploaded: drafts judged by the base station.
        rejected: those rejected.
        upload_rate: uploaded ÷ tokens.
        reject_rate: rejected ÷ uploaded; None without uploads.
        acceptance_rate: 1 - reject_rate.
        bertscore_f1: mean over prompts with a reference; None without scores.
        cosine_similarity: likewise.
        bertscore_f1_llm: against the LLM's own answers; None without an `llm` row, and for that row.
        cosine_similarity_llm: likewise.
        exact_match: share of prompts with a target whose answer is it; None without targets.
        last_number_accuracy: likewise, by the last number of the answer.
        llm_log_prob: mean over prompts of the LLM's mean log-probability of the answer's tokens, nats a token.
        tv: mean over prompts of the mean TV(x, y) where y was seen.
        energy_saving_ratio: η in the paper's profile; None for `llm` and without an `hlm` row.
        energy_j: modelled joules in all, watts times busy seconds: the three parts that follow.
        transmit_j, device_j, basestation_j: modelled, of transmitter, device and base station.
        measured_j: joules that meters read while these prompts were answered; None unless both ends were measured.
        measured_device_j: of them, the device's; None where it was not measured, or not apart.
        measured_basestation_j: likewise the base station's; 0 where it was never asked.
        measured_machine_j: of one machine that was device and base station, which no meter tells apart.
        throughput_tok_s: tokens ÷ latency, measured compute and link clock.
        throughput_paper_tok_s: Eq. (3) with the paper's constants; None for `llm`.
        latency_s: mean seconds a prompt.
        llm_forwards_per_token: forwards of the LLM ÷ tokens.
        llm_positions_per_token: positions these ran ÷ tokens.
        bs_busy_s: base-station busy seconds in all.
        model_bits: the paper's B summed.
        payload_bits: codec payloads and skipped ids.
        wire_bytes: all that went on the wire.
        skipped_risk: rejection probabilities of skipped tokens, summed, ÷ all tokens; 0 for `llm` and `hlm`, None for a
            policy that skips and was not audited, and with outage tokens.
        audit_coverage: audited ÷ skipped tokens; None where none was audited.
        audit_bits: of `payload_bits`, the audit bytes; audits of an answer's tail are not billed.
        audit_rows: output rows the LLM made for audits alone, one an audited token.
        outage_tokens: tokens to be asked about that were kept unasked, because the base station was gone.
        lost_links: streams that were lost and opened again, or gone on without.
    """

    policy: str
    row: str
    k: float | None
    gamma: float | None
    theta_u: float | None
    theta_c: float | None
    rate: float | None
    prompts: int
    tokens: int
    uploaded: int
    rejected: int
    upload_rate: float | None
    reject_rate: float | None
    acceptance_rate: float | None
    bertscore_f1: Interval | None
    cosine_similarity: Interval | None
    bertscore_f1_llm: Interval | None
    cosine_similarity_llm: Interval | None
    exact_match: Interval | None
    last_number_accuracy: Interval | None
    llm_log_prob: Interval | None
    tv: Interval | None
    energy_saving_ratio: float | None
    energy_j: float
    throughput_tok_s: float | None
    throughput_paper_tok_s: float | None
    latency_s: Interval | None
    llm_forwards_per_token: float | None
    llm_positions_per_token: float | None
    bs_busy_s: float
    model_bits: int
    payload_bits: int
    wire_bytes: int
    skipped_risk: float | None
    audit_coverage: float | None = None
    audit_bits: int = 0
    audit_rows: int = 0
    outage_tokens: int = 0
    lost_links: int = 0
    transmit_j: float | None = None
    device_j: float | None = None
    basestation_j: float | None = None
    measured_j: float | None = None
    measured_device_j: float | None = None
    measured_basestation_j: float | None = None
    measured_machine_j: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object of `results.json`; an interval becomes `{mean, low, high}`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PolicyResult:
        """Return the result that an object of `results.json` holds.

        Raises:
            InvalidRequestError: if fields are missing or unknown.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        # Of audits, outages and meters, an earlier version said nothing.
        needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if not needed <= set(values) <= names:
            missing, unknown = sorted(needed - set(values)), sorted(set(values) - names)
            raise InvalidRequestError(
                f"a policy's results lack {missing} and have the unknown {unknown}: written by another version?"
            )
        fields: dict[str, Any] = {n: Interval(**v) if isinstance(v, dict) else v for n, v in values.items()}
        return cls(**fields)


def summarise(
    row: Row, samples: Sequence[Sample], scores: Sequence[AnswerScore] | None, bill: Bill, seed: int = 0
) -> PolicyResult:
    """Return the result of one policy run.

    Args:
        row: its policy, knobs and label.
        samples: its prompts, failed ones included.
        scores: quality of each sample, in the same order; None if it was not measured.
        bill: energy, throughput and the `hlm` row to compare with.
        seed: of the bootstrap.

    Raises:
        InvalidRequestError: if a sample belongs to another policy, a prompt occurs twice, or scores and samples differ
            in number.
    """
    policy = row.policy
    _check(row.label, samples, scores)
    totals = Totals.of(samples)
    kept = [index for index, sample in enumerate(samples) if not sample.failed]
    energy = bill.energy(totals)
    alone = policy == LLM
    upload_rate = 0.0 if alone else _ratio(totals.uploaded, totals.tokens)
    reject_rate = None if alone else _ratio(totals.rejected, totals.uploaded)
    quality: dict[str, Any] = {
        name: _mean([getattr(scores[index], name) for index in kept] if scores is not None else [], seed)
        for name in AnswerScore.__slots__
    }
    return PolicyResult(
        policy=policy,
        row=row.label,
        k=row.knobs.get("k"),
        gamma=row.knobs.get("gamma"),
        theta_u=row.knobs.get("theta_u"),
        theta_c=row.knobs.get("theta_c"),
        rate=row.knobs.get("rate"),
        prompts=totals.prompts,
        tokens=totals.tokens,
        uploaded=0 if alone else totals.uploaded,
        rejected=0 if alone else totals.rejected,
        upload_rate=upload_rate,
        reject_rate=reject_rate,
        acceptance_rate=None if reject_rate is None else 1.0 - reject_rate,
        **quality,
        llm_log_prob=_mean([samples[index].llm_log_prob for index in kept], seed),
        tv=_mean([samples[index].tv for index in kept], seed),
        energy_saving_ratio=None if alone else bill.saving(totals),
        energy_j=energy.total_j,
        throughput_tok_s=_ratio(totals.tokens, totals.latency_s),
        throughput_paper_tok_s=None if alone or upload_rate is None else bill.eq3.throughput_tok_s(upload_rate),
        latency_s=_mean([samples[index].latency_s for index in kept], seed),
        llm_forwards_per_token=_ratio(totals.llm_forwards, totals.tokens),
        llm_positions_per_token=_ratio(totals.llm_positions, totals.tokens),
        bs_busy_s=totals.bs_busy_s,
        model_bits=totals.model_bits,
        payload_bits=totals.payload_bits,
        wire_bytes=totals.wire_bytes,
        skipped_risk=_skipped_risk(policy, [samples[index] for index in kept], totals.tokens),
        audit_coverage=_ratio(totals.audited, totals.skipped) if totals.audited else None,
        audit_bits=totals.audit_bits,
        audit_rows=totals.audited,
        outage_tokens=totals.outage_tokens,
        lost_links=totals.lost_links,
        transmit_j=energy.transmit_j,
        device_j=energy.device_j,
        basestation_j=energy.basestation_j,
        **measured_fields(samples),
    )


def measured_fields(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the fields of a result that say what meters read."""
    measured = MeasuredTotals.of(samples)
    return {
        "measured_j": measured.total_j,
        "measured_device_j": measured.device_j,
        "measured_basestation_j": measured.basestation_j,
        "measured_machine_j": measured.machine_j,
    }


def _check(label: str, samples: Sequence[Sample], scores: Sequence[AnswerScore] | None) -> None:
    others = {sample.policy for sample in samples} - {label}
    if others:
        raise InvalidRequestError(f"samples of {', '.join(sorted(others))} among those of {label}")
    if len({sample.prompt for sample in samples}) < len(samples):
        raise InvalidRequestError(f"a prompt occurs twice among the samples of {label}")
    if scores is not None and len(scores) != len(samples):
        raise InvalidRequestError(f"{len(scores)} scores for {len(samples)} samples of {label}; expected as many")


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None], seed: int) -> Interval | None:
    known = [value for value in values if value is not None]
    return mean_interval(known, seed) if known else None


def _skipped_risk(policy: str, samples: Sequence[Sample], tokens: int) -> float | None:
    if any(sample.outage_tokens for sample in samples):
        # Kept unasked, they carry a risk of their own, which nobody has told.
        return None
    if policy in _NEVER_SKIP:
        return 0.0
    risks = [sample.skipped_risk_sum for sample in samples]
    known = [risk for risk in risks if risk is not None]
    # One prompt without audit makes the sum a sum over something else.
    return _ratio(sum(known), tokens) if len(known) == len(risks) else None
