"""What a resumed run keeps, and what it is refused on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest

from fakes import FakeEngine, contextual, mixed, serving
from rigs import EXAMPLES, STOP, Rig, V, lines, steady
from uihlm_evaluation.prompts.datasets import Example
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.runner import prepare
from uihlm_evaluation.runs.samples import Sample, SampleWriter
from uihlm_proto.errors import InvalidRequestError


@pytest.fixture
def rig() -> Iterator[Rig]:
    engine = FakeEngine(mixed(contextual(V, 1), contextual(V, 2), 0.5), V, [STOP])
    with serving(engine) as address:
        rig = Rig(address, engine)
        with rig.device:
            yield rig


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_resumed_run_is_the_whole_run(rig, tmp_path, stop_at):
    whole = rig.run(tmp_path / "whole", "random", "llm")
    asked = []

    def stop(text: str) -> None:
        asked.append(text)
        if len(asked) == stop_at:
            raise KeyboardInterrupt

    rig.before_turn = stop
    with pytest.raises(KeyboardInterrupt):
        rig.run(tmp_path / "run", "random", "llm")
    rig.before_turn = lambda text: None
    rig.progress, rig.turns = [], []
    resumed = rig.run(tmp_path / "run", "random", "llm", resume=True)
    assert steady(resumed) == steady(whole)
    assert len(rig.turns) == 6 - (stop_at - 1), "what was done is not done again"
    assert [(p.done, p.total) for p in rig.progress] == [(n, 6) for n in range(stop_at, 7)]
    tokens = [
        [(line["policy"], line["prompt"], line["token"]) for line in lines(tmp_path / folder / "rounds.jsonl")]
        for folder in ("run", "whole")
    ]
    assert tokens[0] == tokens[1]


def test_rounds_without_their_sample_are_run_again(rig, tmp_path):
    """A crash between a prompt's rounds and its sample."""
    whole = rig.run(tmp_path, "hlm")
    text = (tmp_path / "rounds.jsonl").read_text()
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert steady(rig.run(tmp_path, "hlm", resume=True)) == steady(whole)
    assert [line["token"] for line in lines(tmp_path / "rounds.jsonl")] == [
        json.loads(line)["token"] for line in text.splitlines()
    ]


def test_rounds_are_on_disk_before_their_sample(rig, tmp_path, monkeypatch):
    append = SampleWriter.append
    seen = []

    def check(writer: SampleWriter, sample: Sample) -> None:
        written = [line for line in lines(tmp_path / "rounds.jsonl") if line["prompt"] == sample.prompt]
        seen.append(len(written) == sample.tokens)
        append(writer, sample)

    monkeypatch.setattr(SampleWriter, "append", check)
    rig.run(tmp_path, "hlm")
    assert seen == [True] * 3


def test_failed_prompt_is_not_tried_again_on_resume(rig, tmp_path):
    def refuse(text: str) -> None:
        raise InvalidRequestError("no")

    rig.before_turn = refuse
    first = rig.run(tmp_path, "slm")
    rig.before_turn = lambda text: None
    assert rig.run(tmp_path, "slm", resume=True) == first
    assert all(sample.failed for sample in first)


def test_run_is_refused_on_top_of_another(rig, tmp_path):
    rig.run(tmp_path, "slm")
    before = (tmp_path / "samples.jsonl").read_bytes()
    with pytest.raises(InvalidRequestError, match="holds a run already: add --resume"):
        rig.run(tmp_path, "slm")
    assert (tmp_path / "samples.jsonl").read_bytes() == before


def test_resume_names_every_setting_that_changed(rig, tmp_path):
    rig.run(tmp_path, "slm")
    with pytest.raises(InvalidRequestError, match=r"\(codec: dense32 → dense16, selection\.seed: 0 → 5\)"):
        rig.run(tmp_path, "slm", resume=True, seed=5, codec="dense16")
    with pytest.raises(InvalidRequestError, match=r"policies: \['slm'\] → \['slm', 'hlm'\]"):
        rig.run(tmp_path, "slm", "hlm", resume=True)


@pytest.mark.parametrize(
    "examples",
    [
        EXAMPLES[:2],
        [*EXAMPLES[:2], Example(9, "another", "", "answer 9")],
        [*EXAMPLES[:2], dataclasses.replace(EXAMPLES[2], output="another")],
        [*EXAMPLES[:2], dataclasses.replace(EXAMPLES[2], index=10)],
    ],
)
def test_resume_with_other_prompts_is_refused(rig, tmp_path, examples):
    rig.run(tmp_path, "slm")
    with pytest.raises(InvalidRequestError, match="was made with other prompts"):
        rig.run(tmp_path, "slm", resume=True, examples=examples)


def test_resume_of_nothing_is_a_first_run(rig, tmp_path):
    assert len(rig.run(tmp_path / "deep" / "new", "slm", resume=True)) == 3


def test_settings_that_cannot_be_read_are_a_sentence(rig, tmp_path):
    rig.run(tmp_path, "slm")
    whole = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(InvalidRequestError, match=r"run\.json cannot be read .*name another --output"):
        rig.run(tmp_path, "slm", resume=True)


def test_other_weights_of_the_same_name_are_not_mixed(tmp_path):
    config = RunConfig()
    prepare(tmp_path / "run", config, "p", resume=False, weights={"slm": "a", "llm": "b"})
    assert prepare(tmp_path / "run", config, "p", resume=True, weights={"slm": "a", "llm": "b"}) == []
    # A base station somewhere else tells nothing of its weights.
    assert prepare(tmp_path / "run", config, "p", resume=True, weights={"slm": "a"}) == []
    with pytest.raises(InvalidRequestError, match="made with other weights of the llm"):
        prepare(tmp_path / "run", config, "p", resume=True, weights={"slm": "a", "llm": "c"})
