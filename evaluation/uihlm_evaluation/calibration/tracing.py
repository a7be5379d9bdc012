"""Making a trace: prompts answered under `hlm` through the real base station, every layer's attention read on the way.

The loop runs each draft through the drafter and looks at its attention row before it decides, as under `ui`; so one pass
gives all, at the very positions of such a run, with the floats that every policy's drafter computes. (A second pass over
the finished text would see committed tokens in place of rejected drafts.)

    parts/000012.npz   a prompt's rows, written when its answer is whole
    trace.json         the settings and a hash of the prompts, which --resume compares
    trace.npz          all of them, once the last is done
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.drafter import Drafter
from uihlm_device.record import Float32Array, Record, Wants
from uihlm_device.rules.policies import Evidence, Mode, Needs, Policy
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.calibration.layers import LayerStatistics, layer_statistics
from uihlm_evaluation.calibration.trace import TOP_LOGITS, Trace, TraceHeader, joined, load_trace
from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.whole_files import write_whole
from uihlm_proto.errors import InvalidRequestError, UihlmError, UnavailableError
from uihlm_proto.randomness import session_key

TRACE, SETTINGS, PARTS = "trace.npz", "trace.json", "parts"


class LayeredDrafter:
    """A drafter that reads every layer's attention wherever it is asked for one layer's (`Drafter`)."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._layers: Float32Array | None = None

    @property
    def statistics(self) -> LayerStatistics:
        """Of the last forward, which was asked for attention."""
        assert self._layers is not None, "the last forward was asked for attention"
        return layer_statistics(self._layers)

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self._drafter.vocabulary_size

    @property
    def fingerprint(self) -> bytes:
        """The tokenizer's fingerprint, 32 bytes."""
        return self._drafter.fingerprint

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._drafter.stop_ids

    @property
    def max_context(self) -> int:
        """Positions the cache holds."""
        return self._drafter.max_context

    def forward(self, keep_len: int, new_ids: Sequence[int], wants: Wants = Wants()) -> Record:
        """Run the drafter; see `Drafter.forward`."""
        record = self._drafter.forward(keep_len, new_ids, replace(wants, attention_layers=wants.attention))
        self._layers = record.attention_layers
        return record


class Recorder:
    """Policy `hlm` that notes what it is shown (`Policy`); one row a draft, without what the verdict will tell."""

    mode = Mode.SPLIT

    def __init__(self, hidden: bool) -> None:
        """Note rows, with the drafter's hidden state if asked to."""
        self.needs = Needs.UNCERTAINTY | Needs.IMPORTANCE | Needs.LOGITS | (Needs.HIDDEN if hidden else Needs.NOTHING)
        self.rows: list[dict[str, Any]] = []
        self.drafter: LayeredDrafter | None = None

    def uploads(self, evidence: Evidence) -> bool:
        """Note a draft, and upload it."""
        assert self.drafter is not None, "the loop has just run the draft"
        assert evidence.logits is not None, "logits are declared as a need"
        statistics = self.drafter.statistics
        self.rows.append(
            {
                "draft": evidence.draft,
                "x_d": evidence.x_d,
                "u": evidence.u,
                **_logit_columns(evidence.logits),
                "counts": statistics.counts,
                "attention_entropy_nat": statistics.entropy_nat,
                "attention_max": statistics.max_weight,
                "hidden": evidence.hidden,
            }
        )
        return True


def _logit_columns(z: np.ndarray) -> dict[str, Any]:
    """Return the columns of the raw logits `[V]`."""
    top = np.argpartition(z, -min(TOP_LOGITS, len(z)))[-TOP_LOGITS:]
    top = top[np.argsort(-z[top], kind="stable")]
    shifted = z.astype(np.float64) - float(z[top[0]])
    weights = np.exp(shifted)
    total = weights.sum()
    return {
        "top_ids": top,
        "top_logits": z[top],
        "log_sum": np.log(total) + float(z[top[0]]),
        # H = log Σ e^z' − Σ p·z', with z' counted from the largest.
        "entropy_nat": np.log(total) - (weights * shifted).sum() / total,
    }


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """What a trace is made with.

    Attributes:
        config: the run's settings.
        header: what the file says of them.
        hidden: whether the drafter's hidden states are kept.
    """

    config: RunConfig
    header: TraceHeader
    hidden: bool = True


@dataclass(frozen=True, slots=True)
class Tracer:
    """A device ready to be traced.

    Attributes:
        drafter_for: gives the drafter that can record what a policy needs.
        decoder: makes a decoder from drafter, policy and settings.
        first_turn: a user turn as prompt ids.
    """

    drafter_for: Callable[[Policy], Drafter]
    decoder: Callable[[Drafter, Policy, DecodeSettings], Decoder]
    first_turn: Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a progress display shows after each prompt.

    Attributes:
        done, total: prompts.
        tokens, rejected: of this session's answers so far.
    """

    done: int
    total: int
    tokens: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Traced:
    """What came of it.

    Attributes:
        trace: every answered prompt's rows.
        failed: (prompt, error) of the others.
    """

    trace: Trace
    failed: tuple[tuple[int, str], ...]


def make_trace(
    tracer: Tracer,
    settings: TraceSettings,
    examples: Sequence[Example],
    output: Path,
    resume: bool,
    on_progress: Callable[[Progress], None],
) -> Traced:
    """Answer every example under `hlm` and return the trace, which is also in `output`; what was done is not done again.

    Raises:
        InvalidRequestError: if `output` holds a trace already and `resume` is off, or one of other settings or prompts.
        UnavailableError: if the base station cannot be reached; whole prompts are on disk.
        TraceError: if no prompt could be answered.
    """
    prepare(settings, examples, output, resume)
    if (output / TRACE).exists():
        trace = load_trace(output / TRACE)
        if {example.index for example in examples} == set(trace.prompt.tolist()):
            return Traced(trace, ())
    parts = output / PARTS
    parts.mkdir(exist_ok=True)
    recorder = Recorder(settings.hidden)
    recorder.drafter = LayeredDrafter(tracer.drafter_for(recorder))
    decoder = tracer.decoder(recorder.drafter, recorder, settings.config.decode)
    failed = []
    tokens = rejected = 0
    for done, example in enumerate(examples, start=1):
        path = parts / f"{example.index:06d}.npz"
        if not path.exists():
            try:
                part = _answered(decoder, recorder, tracer.first_turn(example.user_turn), example.index, settings)
            except UnavailableError:
                raise
            except UihlmError as error:
                failed.append((example.index, str(error)))
            else:
                part.save(path)
                tokens, rejected = tokens + len(part), rejected + int(part.rejected.sum())
        on_progress(Progress(done, len(examples), tokens, rejected))
    trace = joined([load_trace(path) for path in sorted(parts.glob("*.npz"))])
    trace.save(output / TRACE)
    if not failed:
        shutil.rmtree(parts)
    return Traced(trace, tuple(failed))


def prepare(settings: TraceSettings, examples: Sequence[Example], output: Path, resume: bool) -> None:
    """Make the folder, or check that the one there is of these settings and prompts."""
    here = {
        "digest": settings.config.digest(),
        "prompts": Dataset(tuple(examples), "").digest,
        "hidden": settings.hidden,
        "slm_sha256": settings.header.slm_sha256,
        "llm_sha256": settings.header.llm_sha256,
    }
    path = output / SETTINGS
    if path.exists():
        if not resume:
            raise InvalidRequestError(
                f"{output} holds a trace already: add --resume to go on with it, or name another --output"
            )
        before = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in here.items() if before.get(name) != value]
        if differing:
            raise InvalidRequestError(
                f"{output} was made with other settings, prompts or models ({', '.join(differing)}): resume with the same "
                "ones, or name another --output"
            )
        return
    output.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({**here, "config": settings.config.to_dict()}, indent=1) + "\n")


def _answered(
    decoder: Decoder, recorder: Recorder, prompt_ids: list[int], index: int, settings: TraceSettings
) -> Trace:
    """Return the rows of one answer."""
    recorder.rows.clear()
    conversation = Conversation(session_key(settings.config.selection.seed, index))
    conversation.extend(prompt_ids)
    try:
        records = list(decoder.answer(conversation))
        decoder.settle_open(conversation)
    finally:
        conversation.end_session()
    rows = [
        {**row, "prompt": index, "step": step, **_verdict_columns(record)}
        for step, (row, record) in enumerate(zip(recorder.rows, records, strict=True))
    ]
    return Trace.of_rows(settings.header, rows)


def _verdict_columns(record: TokenRecord) -> dict[str, Any]:
    if record.y_d is None or record.reject_prob is None or record.tv is None:
        raise InvalidRequestError(
            "the base station told no y_d with its verdict: a trace needs a codec that sends the distribution, as dense32"
        )
    return {
        "position": record.position,
        "token": record.token,
        "rejected": record.origin is Origin.RESAMPLED,
        "y_d": record.y_d,
        "reject_prob": record.reject_prob,
        "tv": record.tv,
    }
