"""Running policies over prompts: every prompt under every row, in order, into a folder that a later run can resume.

    rounds.jsonl    one line a token, written before …
    samples.jsonl   … the line of its prompt and policy, so that a sample on disk is whole
    run.json        the settings and a hash of the prompts, which --resume compares

Prompts are the outer loop: an interrupted run has the same prompts under every policy, and a machine that slows down
slows all policies alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uihlm_device.conversation import Conversation
from uihlm_device.decoder import Decoder
from uihlm_device.rules.risk import RiskPolicy
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.quality.agreement import Agreement
from uihlm_evaluation.runs.configuration import RunConfig, differences
from uihlm_evaluation.runs.samples import RoundWriter, Sample, SampleWriter, keep_rounds, read_samples
from uihlm_evaluation.runs.summing import audited, basestation_j, summed, with_audit, with_joules
from uihlm_evaluation.whole_files import write_whole
from uihlm_proto.errors import InvalidRequestError, UihlmError, UnavailableError
from uihlm_proto.randomness import session_key
from uihlm_wireless.clock import Clock
from uihlm_wireless.joules.counters import Measured, WindowMeter
from uihlm_wireless.ledger import Ledger

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
    basestation_j: float | None = None

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
        meter: what notes when each answer began and ended, and reads counters; None leaves joules to the model.
    """

    decoders: dict[str, Decoder]
    clock: Clock
    ledger: Ledger
    first_turn: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    agreement: Agreement | None = None
    meter: WindowMeter | None = None


def run(
    bench: Bench,
    config: RunConfig,
    examples: Sequence[Example],
    output: Path,
    resume: bool,
    on_progress: Callable[[Progress], None],
    weights: Mapping[str, str] | None = None,
) -> list[Sample]:
    """Run every policy of `config` over every example and return all samples, those of a resumed run included.

    A prompt that fails is recorded with its error and the run goes on. `weights` are hashes of the models here, by role.

    Raises:
        InvalidRequestError: if `output` holds a run already and `resume` is off, or holds one with other settings,
            other prompts or other weights.
        UnavailableError: if the base station cannot be reached; what was done so far is on disk.
    """
    done = prepare(output, config, Dataset(tuple(examples), "").digest, resume, weights)
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


def prepare(
    output: Path, config: RunConfig, prompts: str, resume: bool, weights: Mapping[str, str] | None = None
) -> list[Sample]:
    """Make the folder of a run, or check that it holds this one; return what is done, and cut rounds of what is not.

    Raises:
        InvalidRequestError: if it holds a run and `resume` is off, or one with other settings, prompts or weights.
    """
    settings = output / RUN
    if settings.exists():
        if not resume:
            raise InvalidRequestError(
                f"{output} holds a run already: add --resume to go on with it, or name another --output"
            )
        try:
            before = json.loads(settings.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidRequestError(f"{settings} cannot be read ({error}): name another --output") from error
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
        # A name stays when what it names is fetched or quantised anew; runs of earlier versions did not say.
        for role, found in (weights or {}).items():
            if before.get("weights", {}).get(role, found) != found:
                raise InvalidRequestError(
                    f"{output} was made with other weights of the {role}: bring them back, or name another --output"
                )
        done = read_samples(output / SAMPLES) if (output / SAMPLES).exists() else []
        keep_rounds(output / ROUNDS, {(sample.policy, sample.prompt) for sample in done})
        return done
    output.mkdir(parents=True, exist_ok=True)
    write_header(output, config, prompts, weights)
    return []


def write_header(output: Path, config: RunConfig, prompts: str, weights: Mapping[str, str] | None = None) -> None:
    """Write `run.json`: the settings and the hashes of prompts and weights."""
    known = {"weights": dict(weights)} if weights else {}
    header = {"digest": config.digest(), "prompts": prompts, **known, "config": config.to_dict()}
    write_whole(output / RUN, json.dumps(header, indent=1))


def answer(bench: Bench, name: str, example: Example, config: RunConfig) -> tuple[Sample, list[TokenRecord]]:
    """Answer one prompt under one policy; a failure that only concerns this prompt becomes its sample's error."""
    decoder = bench.decoders[name]
    theta_u = decoder.policy.controller.theta_u if isinstance(decoder.policy, RiskPolicy) else None
    conversation = Conversation(session_key(config.selection.seed, example.index))
    records: list[TokenRecord] = []
    failure: UihlmError | None = None
    end = None if bench.meter is None else bench.meter.begin()
    measured: Measured | None = None
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
        measured = None if end is None else end()
        opening, cost = conversation.open_round, conversation.open_cost
        conversation.end_session()
    # Without an answer to Open there is no whole bill of it.
    bill = None if opening is None or cost is None else bench.ledger.pop(opening)
    answer_ids = [record.token for record in records]
    text = bench.decode(answer_ids)
    records = [audited(record, conversation.audit) for record in records]
    # After the answer, and after its clock has stopped.
    log_prob = None
    if bench.agreement is not None and failure is None:
        log_prob = bench.agreement.log_prob(conversation.ids[: conversation.answer_start], answer_ids)
    # The clock counts on from prompt to prompt: to the nanosecond, an answer takes as long in a resumed run as in a whole.
    latency_s = round(ended_s - started_s, 9)
    sample = summed(name, example, text, records, cost, bill, latency_s, config.joules, failure)
    start_s = config.link.trace_start_s(conversation.key)
    sample = replace(sample, lost_links=conversation.lost_links, llm_log_prob=log_prob, trace_start_s=start_s)
    sample = with_audit(sample, records, conversation.audit, config.decode.audits, theta_u)
    return with_joules(sample, measured, basestation_j(cost, records)), records
