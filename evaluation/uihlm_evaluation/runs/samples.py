"""The two line files of a run: samples.jsonl, one line a prompt under a policy, and rounds.jsonl, one line a token.

Both only grow. A crash can tear the last line; readers leave a torn one out, writers mend the file before they go on.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from uihlm_evaluation.runs.lines import LineFile, LineFileError, whole_lines
from uihlm_evaluation.whole_files import write_whole

SIGNIFICANT_DIGITS = 9

# Fields of a sample that say what it cost in joules, and when.
JOULES = (
    *("transmit_j", "device_j", "basestation_j"),
    *("measured_device_j", "measured_basestation_j", "measured_machine_j", "started_unix_s", "ended_unix_s"),
)


class SampleFileError(LineFileError):
    """A line of a samples or rounds file that is not what this program writes."""


class Stop(enum.StrEnum):
    """Why an answer ended."""

    EOS = "eos"
    LENGTH = "length"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt under one policy: what came out and what it cost.

    Attributes:
        policy: name of the policy run.
        prompt: the prompt's index in its data set.
        text: the answer; what there was of it if it failed.
        reference: the data set's answer.
        target: the exact answer, where the data set has one.
        tokens: tokens of the answer, EOS included.
        uploaded: drafts judged by the base station, accepted + rejected.
        rejected: those of them that were rejected.
        stop: why it ended.
        model_bits: the paper's B summed.
        payload_bits: codec payloads and skipped ids.
        wire_bytes: all that went on the wire.
        latency_s: from the prompt to the last token, on the run's clock.
        draft_s: the drafter's busy time.
        forward_s: the LLM's forwards as the base station timed them.
        queue_s: waiting inside the base station.
        link_s: waiting for the link: grant, airtime, round trips.
        airtime_s: the transmitter's busy time.
        llm_forwards: forwards of the LLM, prefill included.
        llm_positions: token positions these ran.
        bs_busy_s: base-station busy time.
        open_uplink_wire_bytes: of `wire_bytes`, those of the Open message; 0 where none was answered.
        open_downlink_wire_bytes: of `wire_bytes`, those of its answer.
        open_forward_s: of `forward_s`, the prefill's.
        skipped_risk_sum: rejection probabilities of the skipped tokens, summed; None unless all of them were audited.
        skipped: tokens the device kept without asking.
        audited: those of them whose rejection probability the base station told.
        audit_bits: of `payload_bits`, the audit bytes.
        outage_tokens: tokens that the policy would have asked about, kept because the base station was gone.
        lost_links: how often the stream was lost, by a device that waited or went on alone.
        trace_start_s: where in the link's trace the answer began, seconds; None without a trace.
        theta_u: θ_u of this answer, where it moves between answers; None where it does not.
        tv: mean TV(x, y) over the tokens whose y was seen, 0 … 1; None without such a token.
        llm_log_prob: mean log-probability of the answer's tokens under the LLM at temperature 1, nats a token; None where it
            was not asked.
        transmit_j, device_j, basestation_j: modelled joules, watts times `airtime_s`, `draft_s` and `bs_busy_s`.
        measured_device_j: joules that a meter read on the device's machine over this answer; None where none did.
        measured_basestation_j: likewise at the base station (docs/joules.md says over which seconds).
        measured_machine_j: likewise of one machine that was both, and then the other two are None.
        started_unix_s, ended_unix_s: wall clock at the prompt and at the last token; None without a meter on the device.
        error: what went wrong; None unless `stop` is ERROR.
    """

    policy: str
    prompt: int
    text: str
    reference: str
    tokens: int
    uploaded: int
    rejected: int
    stop: Stop
    model_bits: int
    payload_bits: int
    wire_bytes: int
    latency_s: float
    draft_s: float
    forward_s: float
    queue_s: float
    link_s: float
    airtime_s: float
    llm_forwards: int
    llm_positions: int
    bs_busy_s: float
    open_uplink_wire_bytes: int = 0
    open_downlink_wire_bytes: int = 0
    open_forward_s: float = 0.0
    skipped_risk_sum: float | None = None
    skipped: int = 0
    audited: int = 0
    audit_bits: int = 0
    outage_tokens: int = 0
    lost_links: int = 0
    trace_start_s: float | None = None
    theta_u: float | None = None
    target: str | None = None
    tv: float | None = None
    llm_log_prob: float | None = None
    transmit_j: float | None = None
    device_j: float | None = None
    basestation_j: float | None = None
    measured_device_j: float | None = None
    measured_basestation_j: float | None = None
    measured_machine_j: float | None = None
    started_unix_s: float | None = None
    ended_unix_s: float | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the prompt has no answer to count."""
        return self.stop is Stop.ERROR

    def to_json(self) -> str:
        """Return the line of this sample, without its newline."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Sample:
        """Return the sample of a line.

        Raises:
            SampleFileError: if a field is missing, unknown or of another type.
        """
        return _sample(_object(line))


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise SampleFileError(f"not valid JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(value, dict):
        raise SampleFileError(f"expected a JSON object, got {type(value).__name__}")
    return value


@functools.cache
def _hints() -> dict[str, Any]:
    # Resolved once: it takes as long as reading the line.
    return typing.get_type_hints(Sample)


def _sample(values: dict[str, Any]) -> Sample:
    hints = _hints()
    names = [field.name for field in dataclasses.fields(Sample)]
    # Before a lost link could be survived, no sample had seen one; joules stood in results alone; no link was traced.
    values = {"outage_tokens": 0, "lost_links": 0, "trace_start_s": None, **dict.fromkeys(JOULES), **values}
    for problem, keys in (("lacks", set(names) - set(values)), ("has the unknown", set(values) - set(names))):
        if keys:
            raise SampleFileError(
                f"a sample {problem} field {', '.join(sorted(keys))}; was it written by another version?"
            )
    for name in names:
        value, hint = values[name], hints[name]
        allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if hint is Stop:
            if value not in list(Stop):
                raise SampleFileError(f"stop must be one of {', '.join(Stop)}, got {value!r}")
            values[name] = Stop(value)
        elif float in allowed and isinstance(value, int) and not isinstance(value, bool):
            values[name] = float(value)
        elif type(value) not in allowed:
            wanted = " or ".join("null" if kind is types.NoneType else kind.__name__ for kind in allowed)
            raise SampleFileError(f"field {name} of a sample must be {wanted}, got {value!r}")
    return Sample(**values)


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of a file in its order; a torn last line is left out with a warning.

    Raises:
        SampleFileError: with file and line, if any other line is not a sample.
    """
    samples = []
    for number, line in whole_lines(path):
        try:
            samples.append(Sample.from_json(line))
        except SampleFileError as error:
            raise SampleFileError(f"{path}, line {number}: {error}") from error
    return samples


class SampleWriter(LineFile):
    """Appends samples to a file, each flushed when it is written."""

    def append(self, sample: Sample) -> None:
        """Write one line; it is out of this process when the call returns."""
        self._file.write(sample.to_json() + "\n")
        self._file.flush()


class DataclassRecord(Protocol):
    """Any dataclass instance."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class RoundWriter(LineFile):
    """Appends token records to a file, a prompt's lines at once.

    A record is any flat dataclass: None is left out, floats keep 9 significant digits, an enum is its value.
    Write a prompt's rounds before its sample: then `keep_rounds` can tell which prompts are whole.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, a torn last line mended."""
        super().__init__(path)
        self._pending: list[str] = []

    def append(self, record: DataclassRecord) -> None:
        """Hold one line back until `flush`."""
        values = {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
        known = {name: value for name, value in values.items() if value is not None}
        self._pending.append(json.dumps(known, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")

    def flush(self) -> None:
        """Write the lines held back: call it at the end of each prompt."""
        self._file.write("".join(self._pending))
        self._file.flush()
        self._pending.clear()

    def discard(self) -> None:
        """Forget the lines held back: those of a prompt that will be run again."""
        self._pending.clear()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Close the file; the lines held back go with an error, and are written without one."""
        if kind is None:
            self.flush()
        self.close()


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value


def keep_rounds(path: Path, finished: Collection[tuple[str, int]]) -> int:
    """Cut from a rounds file the lines of prompts that are not among `finished` (policy, prompt); return how many went.

    A resumed run calls this first: a crash between a prompt's rounds and its sample leaves rounds that will be written
    again. The file is replaced in one step.

    Raises:
        SampleFileError: with file and line, if a line is no JSON object with `policy` and `prompt`.
    """
    if not path.exists():
        return 0
    kept = []
    lines = list(whole_lines(path))
    for number, line in lines:
        try:
            values = _object(line)
            whose = (values["policy"], values["prompt"])
        except (SampleFileError, KeyError) as error:
            raise SampleFileError(f"{path}, line {number}: not a round ({error})") from error
        if whose in finished:
            kept.append(line + "\n")
    if len(kept) < len(lines):
        write_whole(path, "".join(kept))
    return len(lines) - len(kept)
