"""Texts behind the ids: believed only if they spell the run's answers, and missed aloud."""

import dataclasses
import json

import pytest

from saved_run import WORDS, write_run
from uihlm_evaluation.prompts.datasets import load
from uihlm_evaluation.report import texts as subject
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.texts import find_texts, pieces_of
from uihlm_models.errors import ModelError


class Words:
    vocabulary_size = 105

    def __init__(self, words=WORDS):
        self.words = words

    def piece(self, token):
        return self.words[token - 100].encode()

    def decode(self, ids):
        return "".join(self.words[token - 100] for token in ids)


def test_pieces_are_of_the_ids_of_the_run(tmp_path):
    pieces = pieces_of(RunFolder.read(write_run(tmp_path)), Words())
    assert pieces == {100 + place: word.encode() for place, word in enumerate(WORDS)}


def test_tokenizer_that_spells_otherwise_is_not_believed(tmp_path):
    folder = RunFolder.read(write_run(tmp_path))
    with pytest.raises(ModelError, match="another model's"):
        pieces_of(folder, Words(["A", *WORDS[1:]]))


def test_id_outside_the_vocabulary_is_not_asked_for(tmp_path):
    tokenizer = Words()
    tokenizer.vocabulary_size = 102
    with pytest.raises(ModelError, match="no id 102"):
        pieces_of(RunFolder.read(write_run(tmp_path)), tokenizer)


def test_model_and_prompts_that_are_not_here_are_missed_aloud(tmp_path):
    folder = RunFolder.read(write_run(tmp_path))
    folder.document["config"]["model"] = "./nowhere.gguf"
    found = find_texts(folder)
    assert (found.pieces, found.prompts) == (None, {})
    assert "shown by their ids" in found.notices[0]
    assert "nowhere.gguf" in found.notices[0]
    assert "shown by their index only" in found.notices[1]


@pytest.mark.parametrize("changed", [False, True])
def test_prompts_are_shown_only_if_they_are_those_of_the_run(tmp_path, monkeypatch, changed):
    monkeypatch.setattr(subject, "drafter_tokenizer", lambda folder: Words())
    path = tmp_path / "mine.json"
    entries = [{"instruction": f"ask {n}", "output": "o"} for n in range(3)]
    path.write_text(json.dumps(entries), encoding="utf-8")
    folder = RunFolder.read(write_run(tmp_path / "run"))
    folder.document["config"]["selection"]["dataset"] = str(path)
    dataset = load(str(path))
    folder.document["dataset"]["indices"] = [0, 2]
    folder.document["dataset"]["sha256"] = dataclasses.replace(dataset, examples=dataset.examples[::2]).digest
    if changed:
        entries[2]["instruction"] = "another"
        path.write_text(json.dumps(entries), encoding="utf-8")
    found = find_texts(folder)
    assert found.prompts == ({} if changed else {0: "ask 0", 2: "ask 2"})
    assert len(found.notices) == changed
