"""Re-billing: what a saved run would have cost on another link, without running a model again.

    rounds.jsonl, samples.jsonl  →  Open, uploads and answers of every stream  →  Link and Session on a virtual clock

Tokens, rounds and bytes stay as they are. Airtime, waits, seconds, model bits and joules become what a fresh run would
have been charged for them: the same link schedules the same messages. Compute takes what it took in the saved run, where
no fixed time is asked for.

That holds for runs whose tokens and rounds would have come out the same on the other link: `REFUSED` says which do not. A
run that waits for each verdict does under either clock, and is billed again on the virtual one. One thing is lost: the
upload at which an answer failed is in no line; in a fresh run it may keep the next answer waiting for the link.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from uihlm_device.tokens import Origin
from uihlm_evaluation.results.outcome import publish
from uihlm_evaluation.results.policy_result import HLM, PolicyResult, summarise
from uihlm_evaluation.results.saved import SavedRun
from uihlm_evaluation.results.scores import SCORES
from uihlm_evaluation.results.totals import Bill, Totals
from uihlm_evaluation.runs import provenance
from uihlm_evaluation.runs.configuration import ClockMode, RunConfig, differences
from uihlm_evaluation.runs.runner import ROUNDS, SAMPLES, RoundLine, write_header
from uihlm_evaluation.runs.samples import RoundWriter, Sample, SampleWriter
from uihlm_proto.codecs import Codec, codec
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.ledger import Ledger, RoundBill
from uihlm_wireless.link import Link, Session

# Runs that another link would have made other runs, or whose lines do not hold every message.
REFUSED: tuple[tuple[str, Callable[[RunConfig, RoundLine], bool]], ...] = (
    (
        "the link was lost and the device wrote on alone, so that its tokens depend on the clock",
        lambda config, line: line.origin is Origin.OUTAGE,
    ),
    (
        "drafts were in flight, so that its rounds depend on the clock",
        lambda config, line: config.decode.in_flight > 1,
    ),
    (
        "an upload carried several drafts, and those never judged have no line that says what drafting them took",
        lambda config, line: config.decode.draft_length != 1,
    ),
    (
        "an upload carried a tree of drafts, and those off the path have no line",
        lambda config, line: config.decode.tree > 0,
    ),
)


# Settings that say what a run costs and not what it does.
PRICES = ("link", "timing", "joules", "clock")

# Fields of a result that follow from prices; the others are counts, and scores of texts that stay the same.
# What a meter read stays: it was read on the run that was made.
_PRICED = (
    *("energy_saving_ratio", "energy_j", "transmit_j", "device_j", "basestation_j"),
    *("throughput_tok_s", "latency_s", "bs_busy_s", "model_bits"),
)


def rebill(run: SavedRun, config: RunConfig, output: Path) -> list[PolicyResult]:
    """Write the run as it would have been under `config` into the folder `output`, and return its results.

    Args:
        run: the saved run; it is left as it is.
        config: its settings with other prices (`PRICES`); the clock becomes the virtual one.
        output: a folder that is new or empty. It appears whole or not at all.

    Raises:
        InvalidRequestError: if the run is one of `REFUSED`, its files do not fit together, `config` changes more than
            prices, or `output` holds something.
        OutageError: if a message would not get through on the other link.
    """
    config = replace(config, clock=ClockMode.SIMULATED)
    if replace(run.config, **_prices(config)) != config:
        raise InvalidRequestError(f"a saved run can be billed again by {', '.join(PRICES)} alone: run it for the rest")
    if output.exists() and any(output.iterdir()):
        raise InvalidRequestError(f"{output} is not empty: name another --output")
    unfinished = output.with_name(output.name + ".new")
    try:
        unfinished.mkdir(parents=True)
    except FileExistsError:
        raise InvalidRequestError(
            f"{unfinished} is in the way, left there by a rebill that was killed or by you: move it, or name another --output"
        ) from None
    try:
        results = _write(run, config, unfinished)
        unfinished.replace(output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return results


def _prices(config: RunConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in PRICES}


def _write(run: SavedRun, config: RunConfig, folder: Path) -> list[PolicyResult]:
    write_header(folder, replace(run.asked, **_prices(config)), run.prompts, run.weights)
    pricing = _Pricing(run.config, config, run.vocabulary_size)
    priced: dict[tuple[str, int], Sample] = {}
    _check_links(run)
    with RoundWriter(folder / ROUNDS) as rounds:
        for whose, lines in run.answers():
            _check(run, lines)
            priced[whose], new_lines = pricing.answer(run.samples[whose], lines)
            for line in new_lines:
                rounds.append(line)
            rounds.flush()
    samples = [priced[whose] if whose in priced else pricing.answer(old, [])[0] for whose, old in run.samples.items()]
    with SampleWriter(folder / SAMPLES) as file:
        for sample in samples:
            file.append(sample)
    if (run.path / SCORES).exists():
        shutil.copyfile(run.path / SCORES, folder / SCORES)
    results = _results(run, config, samples)
    made = run.document["provenance"]
    rebilled_from = {
        "digest": run.config.digest(),
        "changed": differences(run.config.to_dict(), config.to_dict()),
        "provenance": made,
    }
    document = {
        **run.document,
        "config": config.to_dict(),
        "provenance": {**provenance.collect(made["metric_hash"]).to_json(), "rebilled_from": rebilled_from},
        "policies": [result.to_json() for result in results],
    }
    publish(folder, document, results)
    return results


def _check_links(run: SavedRun) -> None:
    for (label, prompt), sample in run.samples.items():
        if sample.lost_links:
            raise InvalidRequestError(
                f"{run.path} cannot be billed again: the link was lost, and what was sent in vain is not written down by "
                f"message (prompt {prompt} under {label}); run it under the other settings instead"
            )


def _check(run: SavedRun, lines: Sequence[RoundLine]) -> None:
    for line, (reason, applies) in itertools.product(lines, REFUSED):
        if applies(run.config, line):
            raise InvalidRequestError(
                f"{run.path} cannot be billed again: {reason} (prompt {line.prompt} under {line.policy}); run it under the "
                "other settings instead"
            )


def _results(run: SavedRun, config: RunConfig, samples: Sequence[Sample]) -> list[PolicyResult]:
    """Return the saved results with what follows from prices made anew."""
    # In the order of the data set, as the run was summed up: bootstrap draws go by place.
    places = {index: place for place, index in enumerate(run.document["dataset"]["indices"])}
    ordered = sorted(samples, key=lambda sample: places[sample.prompt])
    by_row = {row: [sample for sample in ordered if sample.policy == row.label] for row in config.rows}
    hlm = next((Totals.of(own) for row, own in by_row.items() if row.policy == HLM), None)
    bill = Bill(run.vocabulary_size, hlm, config.joules)
    results = []
    for row, own in by_row.items():
        fresh = summarise(row, own, None, bill, config.selection.seed % 2**64)
        results.append(replace(run.results[row.label], **{name: getattr(fresh, name) for name in _PRICED}))
    return results


class _Pricing:
    """Bills answers under other settings."""

    def __init__(self, before: RunConfig, now: RunConfig, vocabulary_size: int) -> None:
        self._before = before
        self._now = now
        self._codec: Codec = codec(now.codec, vocabulary_size)

    def answer(self, sample: Sample, lines: Sequence[RoundLine]) -> tuple[Sample, list[RoundLine]]:
        """Return an answer and its tokens as they are billed now."""
        clock = SimulatedClock()
        key = session_key(self._now.selection.seed, sample.prompt)
        sample = replace(sample, trace_start_s=self._now.link.trace_start_s(key))
        link = Link(self._now.link, clock, self._now.timing)
        ledger = Ledger()
        opening = RoundBill(0)
        session: Session | None = None
        if sample.open_uplink_wire_bytes:
            session = link.open(0, clock.now(), sample.open_uplink_wire_bytes, key)
            prefilled = sample.llm_positions - sum(line.llm_positions for line in lines)
            _, answer = session.ready(
                0, sample.open_downlink_wire_bytes, sample.open_forward_s, positions=max(1, prefilled)
            )
            opening = session.request_bill.plus(answer)
        new: list[RoundLine] = []
        for number, group in itertools.groupby(map(self._drafted, lines), key=lambda line: line.round):
            drafted = list(group)
            for line in drafted:
                clock.advance(line.draft_s)
            new += drafted if number is None else self._round(_opened(session, sample), ledger, clock, drafted)
        # As in the runner: to the nanosecond.
        return _summed(sample, new, opening, round(clock.now(), 9), self._now.joules), new

    def _drafted(self, line: RoundLine) -> RoundLine:
        """Return a token with its draft's time as charged now; only the LLM's own tokens were never drafted."""
        fixed_s = self._now.timing.draft_s
        return line if fixed_s is None or line.x_d is None else replace(line, draft_s=fixed_s)

    def _round(
        self, session: Session, ledger: Ledger, clock: SimulatedClock, lines: Sequence[RoundLine]
    ) -> Iterator[RoundLine]:
        """Send a round's upload, take its answers; a round's costs stand on the line that each answer came with."""
        first = lines[0]
        number = first.round
        assert number is not None, "a local token belongs to no round"
        session.upload(number, clock.now(), self._model_bit(first), first.payload_bits, first.uplink_wire_bytes)
        ledger.charge_request(session.request_bill)
        for place, line in enumerate(lines):
            # One answer a round; where the LLM writes alone, one a token or every few, and the first of these has its bytes.
            writes = line.origin is Origin.LLM
            if place and not (writes and line.wire_bytes):
                yield line
                continue
            beside = itertools.takewhile(lambda later: not later.wire_bytes, lines[place + 1 :]) if writes else ()
            arrived_at, answer = session.verdict(
                number,
                line.wire_bytes - line.uplink_wire_bytes,
                line.forward_s,
                positions=line.llm_positions if line.llm_forwards else 0,
                further=sum(1 for _ in beside),
                # The base station ran on before every round but an answer's first, and that ran nothing.
                ran_on=self._now.decode.run_on and line.policy == HLM,
            )
            ledger.charge_answer(answer)
            clock.wait_until(arrived_at)
            bill = ledger.pop(number)
            yield replace(
                line,
                forward_s=bill.forward_s,
                link_s=bill.link_s,
                airtime_s=bill.airtime_s,
                model_bits=bill.model_bit,
            )

    def _model_bit(self, first: RoundLine) -> int:
        """Return the billed bits of an upload: its drafts, which the saved bill counts, at the width billed now."""
        # Drafts that were sent and never judged have no line, so lines cannot be counted. A codec that sends no
        # distribution bills the payload, however many drafts there are.
        each_bit = self._codec.model_bit(1, 0, self._before.link.b_prob)
        drafts = first.model_bits // each_bit if each_bit else 0
        return self._codec.model_bit(drafts, first.payload_bits, self._now.link.b_prob)


def _opened(session: Session | None, sample: Sample) -> Session:
    if session is None:
        raise InvalidRequestError(
            f"{SAMPLES} says that prompt {sample.prompt} under {sample.policy} opened no session, and {ROUNDS} has "
            "rounds of it: its files are of different runs"
        )
    return session


def _summed(
    sample: Sample, lines: Sequence[RoundLine], opening: RoundBill, latency_s: float, joules: JouleProfile
) -> Sample:
    """Return the sample with its prices summed up anew, as the runner sums them."""
    draft_s = sum(line.draft_s for line in lines)
    forward_s = opening.forward_s + sum(line.forward_s for line in lines)
    airtime_s = opening.airtime_s + sum(line.airtime_s for line in lines)
    return replace(
        sample,
        model_bits=sum(line.model_bits for line in lines),
        latency_s=latency_s,
        draft_s=draft_s,
        forward_s=forward_s,
        link_s=opening.link_s + sum(line.link_s for line in lines),
        airtime_s=airtime_s,
        bs_busy_s=forward_s,
        open_forward_s=opening.forward_s,
        **asdict(joules.energy_j(airtime_s, draft_s, forward_s)),
    )
