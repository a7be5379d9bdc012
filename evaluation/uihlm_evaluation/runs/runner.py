"""Running policies over prompts: every prompt under every row, in order, into a folder that a later run can resume.

    rounds.jsonl    one line a token, written before …
    samples.jsonl   … the line of its prompt and policy, so that a sample on disk is whole
    run.json        the settings and a hash of the prompts, which --resume compares

Prompts are the outer loop: an interrupted run has the same prompts under every policy, and a machine that slows down
slows all policies alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uihlm_device.audit import AuditLedger
from uihlm_device.conversation import Conversation
from uihlm_device.decoder import Decoder
from uihlm_device.rules.risk import RiskPolicy
from uihlm_device.stream.session import Cost
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.quality.agreement import Agreement, mean_tv
from uihlm_evaluation.runs.configuration import RunConfig, differences
from uihlm_evaluation.runs.samples import RoundWriter, Sample, SampleWriter, Stop, keep_rounds, read_samples
from uihlm_proto.errors import InvalidRequestError, UihlmError, UnavailableError
from uihlm_proto.randomness import session_key
from uihlm_wireless.clock import Clock
from uihlm_wireless.ledger import Ledger, RoundBill

SAMPLES, ROUNDS, RUN = "samples.jsonl", "rounds.jsonl", "run.json"


@dataclass(frozen=True, slots=True)
class RoundLine:
    """A line of rounds.jsonl: a token record and whose it is. Fields as in `TokenRecord`."""

    policy: str
    prompt: int
    position: int
    token: int
    round: int | None
    origin: Origin
    x_d: float | None
    y_d: float | None
    tv: float | None
    reject_prob: float | None
    u: float | None
    importance: int | None
    attention_entropy: float | None
    attention_max: float | None
    uploaded: bool
    draft_s: float
    forward_s: float
    queue_s: float
    link_s: float
    airtime_s: float
    model_bits: int
    payload_bits: int
    wire_bytes: int
    uplink_wire_bytes: int
    llm_forwards: int
    llm_positions: int

    @classmethod
    def of(cls, policy: str, prompt: int, record: TokenRecord) -> RoundLine:
        """Return the line of one record."""
        own = {name: getattr(record, name) for name in cls.__slots__ if name not in ("policy", "prompt")}
        return cls(policy=policy, prompt=prompt, **own)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a progress display shows after each sample.

    Attributes:
        done, total: samples (prompt × policy).
        sample: the one just done.
    """

    done: int
    total: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class Bench:
    """A device ready to run: one decoder a policy, and what they share.

    Attributes:
        decoders: by the label of their row.
        clock, ledger: of the device's one link.
        first_turn: a user turn as prompt ids.
        decode: ids as text, control tokens left out.
        agreement: what asks the LLM's opinion of each answer; None does not ask.
    """

    decoders: dict[str, Decoder]
    clock: Clock
    ledger: Ledger
    first_turn: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    agreement: Agreement | None = None


def run(
    bench: Bench,
    config: RunConfig,
    examples: Sequence[Example],
    output: Path,
    resume: bool,
    on_progress: Callable[[Progress], None],
) -> list[Sample]:
    """Run every policy of `config` over every example and return all samples, those of a resumed run included.

    A prompt that fails is recorded with its error and the run goes on.

    Raises:
        InvalidRequestError: if `output` holds a run already and `resume` is off, or holds one with other settings or
            other prompts.
        UnavailableError: if the base station cannot be reached; what was done so far is on disk.
    """
    done = prepare(output, config, Dataset(tuple(examples), "").digest, resume)
    finished = {(sample.policy, sample.prompt) for sample in done}
    total = len(examples) * len(config.rows)
    for sample in done:
        _learn(bench, sample)
    with SampleWriter(output / SAMPLES) as samples, RoundWriter(output / ROUNDS) as rounds:
        for example in examples:
            for name in (row.label for row in config.rows):
                if (name, example.index) in finished:
                    continue
                sample, records = answer(bench, name, example, config)
                for record in records:
                    rounds.append(RoundLine.of(name, example.index, record))
                rounds.flush()
                samples.append(sample)
                done.append(sample)
                _learn(bench, sample)
                on_progress(Progress(len(done), total, sample))
    return done


def _learn(bench: Bench, sample: Sample) -> None:
    """Move θ_u by what an answer risked, where a policy does that."""
    rule = bench.decoders[sample.policy].policy
    if isinstance(rule, RiskPolicy) and not sample.failed:
        rule.answered(sample.tokens, sample.skipped_risk_sum)


def prepare(output: Path, config: RunConfig, prompts: str, resume: bool) -> list[Sample]:
    """Make the folder of a run, or check that it holds this one; return what is done, and cut rounds of what is not.

    Raises:
        InvalidRequestError: if it holds a run and `resume` is off, or one with other settings or other prompts.
    """
    settings = output / RUN
    if settings.exists():
        if not resume:
            raise InvalidRequestError(
                f"{output} holds a run already: add --resume to go on with it, or name another --output"
            )
        before = json.loads(settings.read_text(encoding="utf-8"))
        if before["digest"] != config.digest():
            changed = differences(before["config"], config.to_dict())
            raise InvalidRequestError(
                f"{output} was made with other settings ({', '.join(changed)}): resume with the same ones, "
                "or name another --output"
            )
        # The file may have been edited since, or the hub's set have taken the place of the shipped one.
        if before["prompts"] != prompts:
            raise InvalidRequestError(
                f"{output} was made with other prompts: {config.selection.dataset} no longer gives the same ones; "
                "bring them back, or name another --output"
            )
        done = read_samples(output / SAMPLES) if (output / SAMPLES).exists() else []
        keep_rounds(output / ROUNDS, {(sample.policy, sample.prompt) for sample in done})
        return done
    output.mkdir(parents=True, exist_ok=True)
    write_header(output, config, prompts)
    return []


def write_header(output: Path, config: RunConfig, prompts: str) -> None:
    """Write `run.json`: the settings and the hash of the prompts."""
    header = {"digest": config.digest(), "prompts": prompts, "config": config.to_dict()}
    (output / RUN).write_text(json.dumps(header, indent=1), encoding="utf-8")


def answer(bench: Bench, name: str, example: Example, config: RunConfig) -> tuple[Sample, list[TokenRecord]]:
    """Answer one prompt under one policy; a failure that only concerns this prompt becomes its sample's error."""
    decoder = bench.decoders[name]
    theta_u = decoder.policy.controller.theta_u if isinstance(decoder.policy, RiskPolicy) else None
    conversation = Conversation(session_key(config.selection.seed, example.index))
    records: list[TokenRecord] = []
    failure: UihlmError | None = None
    started_s = ended_s = bench.clock.now()
    try:
        conversation.extend(bench.first_turn(example.user_turn))
        for record in decoder.answer(conversation):
            records.append(record)
            ended_s = bench.clock.now()
        decoder.settle_open(conversation)
    except UnavailableError:
        raise
    except UihlmError as error:
        failure = error
    finally:
        opening, cost = conversation.open_round, conversation.open_cost
        conversation.end_session()
    # Without an answer to Open there is no whole bill of it.
    bill = None if opening is None or cost is None else bench.ledger.pop(opening)
    answer_ids = [record.token for record in records]
    text = bench.decode(answer_ids)
    records = [_audited(record, conversation.audit) for record in records]
    # After the answer, and after its clock has stopped.
    log_prob = None
    if bench.agreement is not None and failure is None:
        log_prob = bench.agreement.log_prob(conversation.ids[: conversation.answer_start], answer_ids)
    # The clock counts on from prompt to prompt: to the nanosecond, an answer takes as long in a resumed run as in a whole.
    latency_s = round(ended_s - started_s, 9)
    sample = _sample(name, example, text, records, cost, bill, latency_s, log_prob, failure)
    sample = replace(sample, lost_links=conversation.lost_links)
    return _with_audit(sample, records, conversation.audit, config.decode.audits, theta_u), records


def _audited(record: TokenRecord, audit: AuditLedger) -> TokenRecord:
    """Return the record with what an audit said of its token, if it was skipped."""
    told = record.origin is Origin.LOCAL and record.position in audit.reject_prob
    return replace(record, reject_prob=audit.reject_prob[record.position]) if told else record


def _with_audit(
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


def _sample(
    policy: str,
    example: Example,
    text: str,
    records: Sequence[TokenRecord],
    opening: Cost | None,
    bill: RoundBill | None,
    latency_s: float,
    log_prob: float | None,
    failure: UihlmError | None,
) -> Sample:
    """Sum one answer up. The Open's prefill and bytes belong to it as much as its rounds do."""
    cost = opening or Cost()
    if failure is not None:
        stop = Stop.ERROR
    else:
        stop = Stop.EOS if records and records[-1].stop else Stop.LENGTH
    forward_s = (bill.forward_s if bill else 0.0) + sum(r.forward_s for r in records)
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
        draft_s=sum(r.draft_s for r in records),
        forward_s=forward_s,
        queue_s=cost.queue_s + sum(r.queue_s for r in records),
        link_s=(bill.link_s if bill else 0.0) + sum(r.link_s for r in records),
        airtime_s=(bill.airtime_s if bill else 0.0) + sum(r.airtime_s for r in records),
        llm_forwards=cost.forwards + sum(r.llm_forwards for r in records),
        llm_positions=cost.positions + sum(r.llm_positions for r in records),
        bs_busy_s=forward_s,
        open_uplink_wire_bytes=bill.uplink_wire_bytes if bill else 0,
        open_downlink_wire_bytes=bill.downlink_wire_bytes if bill else 0,
        open_forward_s=bill.forward_s if bill else 0.0,
        target=example.target,
        tv=mean_tv([r.tv for r in records]),
        llm_log_prob=log_prob,
        error=None if failure is None else str(failure),
    )
