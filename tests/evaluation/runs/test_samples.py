"""The line files of a run: exact there and back, strict about strangers, and whole again after a crash."""

import dataclasses
import enum
import json
import logging

import numpy as np
import pytest

from uihlm_evaluation.runs.samples import (
    RoundWriter,
    Sample,
    SampleFileError,
    SampleWriter,
    Stop,
    keep_rounds,
    read_samples,
)


def sample(prompt=0, policy="ui", **changes):
    values = {
        "policy": policy, "prompt": prompt, "text": "a\nb\u2028ü", "reference": "r", "tokens": 4, "uploaded": 2,
        "rejected": 1, "stop": Stop.EOS, "model_bits": 10, "payload_bits": 8, "wire_bytes": 3, "latency_s": 1.5,
        "draft_s": 0.1, "forward_s": 0.2, "queue_s": 0.0, "link_s": 1 / 3, "airtime_s": 0.3, "llm_forwards": 3,
        "llm_positions": 9, "bs_busy_s": 0.2, "skipped_risk_sum": None, "error": None,
    }  # fmt: skip
    return Sample(**{**values, **changes})


class Origin(enum.Enum):
    LOCAL = "local"


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    policy: str
    prompt: int
    x_d: float
    origin: Origin
    y_d: float | None = None


def test_sample_comes_back_as_it_was():
    for one in (sample(), sample(skipped_risk_sum=0.25), sample(stop=Stop.ERROR, error="link lost")):
        line = one.to_json()
        assert "\n" not in line
        assert Sample.from_json(line) == one
        assert isinstance(Sample.from_json(line).stop, Stop)


def test_whole_seconds_come_back_as_floats():
    assert isinstance(Sample.from_json(sample().to_json().replace("1.5", "2")).latency_s, float)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"tokens": "4"}, "tokens of a sample must be int"),
        ({"tokens": True}, "tokens"),
        ({"tokens": 4.0}, "tokens"),
        ({"latency_s": None}, "latency_s of a sample must be float, got None"),
        ({"skipped_risk_sum": "x"}, "float or null"),
        ({"stop": "tired"}, "eos, length, error"),
        ({"colour": 1}, "unknown field colour"),
    ],
)
def test_strange_fields_are_refused(change, part):
    values = {**json.loads(sample().to_json()), **change}
    with pytest.raises(SampleFileError, match=part):
        Sample.from_json(json.dumps(values))


def test_missing_fields_are_refused():
    values = json.loads(sample().to_json())
    del values["error"], values["tokens"]
    with pytest.raises(SampleFileError, match="lacks field error, tokens"):
        Sample.from_json(json.dumps(values))


def test_every_sample_is_on_disk_at_once(tmp_path):
    path = tmp_path / "samples.jsonl"
    with SampleWriter(path) as writer:
        writer.append(sample(0))
        assert [one.prompt for one in read_samples(path)] == [0]
        writer.append(sample(1))
    with SampleWriter(path) as writer:
        writer.append(sample(2))
    assert read_samples(path) == [sample(0), sample(1), sample(2)]


def test_torn_last_line_is_left_out_and_mended(tmp_path, caplog):
    path = tmp_path / "samples.jsonl"
    torn = sample(1).to_json().encode()[:-30]
    path.write_bytes(sample(0).to_json().encode() + b"\n" + torn)
    with caplog.at_level(logging.WARNING):
        assert read_samples(path) == [sample(0)]
    assert "line 2 is torn" in caplog.text
    with SampleWriter(path) as writer:
        writer.append(sample(2))
    assert read_samples(path) == [sample(0), sample(2)]


def test_line_torn_inside_a_character_is_left_out(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(sample(0).to_json().encode() + b'\n{"policy":"\xc3')
    assert read_samples(path) == [sample(0)]


def test_last_line_that_lacks_only_its_newline_is_kept(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(sample(0).to_json().encode())
    assert read_samples(path) == [sample(0)]
    with SampleWriter(path) as writer:
        writer.append(sample(1))
    assert read_samples(path) == [sample(0), sample(1)]


def test_bad_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(sample(0).to_json() + "\n{\n" + sample(1).to_json() + "\n", encoding="utf-8")
    with pytest.raises(SampleFileError, match=r"samples\.jsonl, line 2: not valid JSON"):
        read_samples(path)


def test_round_leaves_out_none_and_keeps_nine_digits(tmp_path):
    path = tmp_path / "rounds.jsonl"
    with RoundWriter(path) as writer:
        writer.append(Line("u", 0, np.float32(1 / 3), Origin.LOCAL))
        writer.append(Line("u", 0, 2 / 3e7, Origin.LOCAL, y_d=0.0))
    assert path.read_text().splitlines() == [
        '{"policy":"u","prompt":0,"x_d":0.333333343,"origin":"local"}',
        '{"policy":"u","prompt":0,"x_d":6.66666667e-08,"origin":"local","y_d":0.0}',
    ]


def test_rounds_reach_the_disk_a_prompt_at_a_time(tmp_path):
    path = tmp_path / "rounds.jsonl"
    with RoundWriter(path) as writer:
        writer.append(Line("u", 0, 0.5, Origin.LOCAL))
        assert path.read_text() == ""
        writer.flush()
        assert path.read_text().count("\n") == 1
        writer.append(Line("u", 1, 0.5, Origin.LOCAL))
        writer.discard()
    assert path.read_text().count("\n") == 1
    with pytest.raises(RuntimeError), RoundWriter(path) as writer:
        writer.append(Line("u", 1, 0.5, Origin.LOCAL))
        raise RuntimeError
    assert path.read_text().count("\n") == 1


def test_resumed_run_keeps_only_the_rounds_of_finished_prompts(tmp_path):
    path = tmp_path / "rounds.jsonl"
    with RoundWriter(path) as writer:
        for policy, prompt in (("u", 0), ("ui", 0), ("u", 1), ("u", 1)):
            writer.append(Line(policy, prompt, 0.5, Origin.LOCAL))
    with path.open("a") as file:
        file.write('{"policy":"u","pro')
    assert keep_rounds(path, {("u", 0), ("ui", 0)}) == 2
    assert [(line["policy"], line["prompt"]) for line in map(json.loads, path.read_text().splitlines())] == [
        ("u", 0),
        ("ui", 0),
    ]
    assert keep_rounds(tmp_path / "absent.jsonl", set()) == 0
    with RoundWriter(path):
        pass
    assert keep_rounds(path, {("u", 0), ("ui", 0)}) == 0


def test_number_that_json_lacks_is_never_written(tmp_path):
    with RoundWriter(tmp_path / "rounds.jsonl") as writer, pytest.raises(ValueError, match="JSON compliant"):
        writer.append(Line("u", 0, float("nan"), Origin.LOCAL))
