"""The sums of one answer: what its tokens, its Open, its audit and its meters come to in one sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

from uihlm_device.audit import AuditLedger
from uihlm_device.stream.session import Cost
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.quality.agreement import mean_tv
from uihlm_evaluation.runs.samples import Sample, Stop
from uihlm_proto.errors import UihlmError
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.joules.counters import Measured
from uihlm_wireless.ledger import RoundBill


def audited(record: TokenRecord, audit: AuditLedger) -> TokenRecord:
    """Return the record with what an audit said of its token, if it was skipped."""
    told = record.origin is Origin.LOCAL and record.position in audit.reject_prob
    return replace(record, reject_prob=audit.reject_prob[record.position]) if told else record


def with_audit(
    sample: Sample, records: Sequence[TokenRecord], audit: AuditLedger, asked: bool, theta_u: float | None
) -> Sample:
    """Return the sample with the sums of its audit; an audit of some skipped tokens says nothing of the others."""
    skipped = [record for record in records if record.origin is Origin.LOCAL]
    told = [record.reject_prob for record in skipped if record.reject_prob is not None]
    whole = asked and len(told) == len(skipped)
    return replace(
        sample,
        skipped_risk_sum=math.fsum(told) if whole else None,
        skipped=len(skipped),
        audited=len(told),
        audit_bits=audit.sent_bit,
        theta_u=theta_u,
    )


def summed(
    policy: str,
    example: Example,
    text: str,
    records: Sequence[TokenRecord],
    opening: Cost | None,
    bill: RoundBill | None,
    latency_s: float,
    joules: JouleProfile,
    failure: UihlmError | None,
) -> Sample:
    """Sum one answer up. The Open's prefill and bytes belong to it as much as its rounds do."""
    cost = opening or Cost()
    if failure is not None:
        stop = Stop.ERROR
    else:
        stop = Stop.EOS if records and records[-1].stop else Stop.LENGTH
    forward_s = (bill.forward_s if bill else 0.0) + sum(r.forward_s for r in records)
    draft_s = sum(r.draft_s for r in records)
    airtime_s = (bill.airtime_s if bill else 0.0) + sum(r.airtime_s for r in records)
    return Sample(
        policy=policy,
        prompt=example.index,
        text=text,
        reference=example.output,
        tokens=len(records),
        uploaded=sum(r.uploaded for r in records),
        rejected=sum(r.origin is Origin.RESAMPLED for r in records),
        outage_tokens=sum(r.origin is Origin.OUTAGE for r in records),
        stop=stop,
        model_bits=sum(r.model_bits for r in records),
        payload_bits=sum(r.payload_bits for r in records),
        wire_bytes=(bill.wire_bytes if bill else 0) + sum(r.wire_bytes for r in records),
        latency_s=latency_s,
        draft_s=draft_s,
        forward_s=forward_s,
        queue_s=cost.queue_s + sum(r.queue_s for r in records),
        link_s=(bill.link_s if bill else 0.0) + sum(r.link_s for r in records),
        airtime_s=airtime_s,
        llm_forwards=cost.forwards + sum(r.llm_forwards for r in records),
        llm_positions=cost.positions + sum(r.llm_positions for r in records),
        bs_busy_s=forward_s,
        open_uplink_wire_bytes=bill.uplink_wire_bytes if bill else 0,
        open_downlink_wire_bytes=bill.downlink_wire_bytes if bill else 0,
        open_forward_s=bill.forward_s if bill else 0.0,
        target=example.target,
        tv=mean_tv([r.tv for r in records]),
        error=None if failure is None else str(failure),
        **asdict(joules.energy_j(airtime_s, draft_s, forward_s)),
    )


def basestation_j(opening: Cost | None, records: Sequence[TokenRecord]) -> float | None:
    """Return the joules that a base station with a meter told of an answer; None unless it told of every forward."""
    told = [record.basestation_j for record in records if record.llm_forwards]
    told += [opening.energy_j] if opening is not None and opening.forwards else []
    known = [joules for joules in told if joules is not None]
    return math.fsum(known) if known and len(known) == len(told) else None


def with_joules(sample: Sample, measured: Measured | None, basestation_j: float | None) -> Sample:
    """Return the sample with what the meters said: the device's own, and the base station's in its verdicts."""
    if measured is None:
        return replace(sample, measured_basestation_j=basestation_j)
    return replace(
        sample,
        started_unix_s=measured.started_unix_s,
        ended_unix_s=measured.ended_unix_s,
        measured_device_j=measured.device_j,
        # On one machine what the base station tells of is in the device's counters already.
        measured_basestation_j=None if measured.machine_j is not None else basestation_j,
        measured_machine_j=measured.machine_j,
    )
