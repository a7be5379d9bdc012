"""A run's folder: what was written comes back, a torn end is left out, and files that do not fit are refused."""

import json
import logging
import math
import time

import numpy as np
import pytest

from saved_run import write_run
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.rounds import NUMBERS, Rounds
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import SampleFileError
from uihlm_proto.errors import InvalidRequestError


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_every_field_of_every_line_comes_back(run):
    rounds = RunFolder.read(run).rounds
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rounds) == len(lines) == 3 * 3 * 5
    for index, line in enumerate(lines):
        assert rounds.labels[rounds.row[index]] == line["policy"]
        assert rounds.origins[rounds.origin[index]] == line["origin"]
        assert [rounds.prompt[index], rounds.position[index], rounds.token[index]] == [
            line["prompt"], line["position"], line["token"],
        ]  # fmt: skip
        for name in NUMBERS:
            value = rounds.column(name)[index]
            assert math.isnan(value) if name not in line else value == line[name], name


def test_labels_follow_the_table_not_the_file(tmp_path):
    rows = [Row("ui k=3 γ=1.5", "ui"), Row.of("hlm"), Row.of("slm")]
    folder = RunFolder.read(write_run(tmp_path, rows))
    assert folder.rounds.labels == tuple(result.row for result in folder.results) == ("ui k=3 γ=1.5", "hlm", "slm")


def test_columns_span_blocks_of_lines(tmp_path):
    line = '{"policy":"u","prompt":%d,"position":1,"token":2,"origin":"local","uploaded":false,"x_d":0.5}\n'
    path = tmp_path / "rounds.jsonl"
    path.write_text("".join(line % prompt for prompt in range(2500)), encoding="utf-8")
    rounds = Rounds.read(path)
    assert np.array_equal(rounds.prompt, np.arange(2500))
    assert rounds.column("x_d").sum() == 1250.0
    assert np.isnan(rounds.column("u")).all()


@pytest.mark.parametrize("cut", [3, 40])
def test_torn_last_line_is_left_out_with_a_notice(run, caplog, cut):
    path = run / "rounds.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + '{"policy":"ui γ"'.encode()[:cut])
    with caplog.at_level(logging.WARNING):
        assert len(RunFolder.read(run).rounds) == 45
    assert "line 46 is torn" in caplog.text


def test_torn_line_inside_a_character_is_left_out(run, caplog):
    path = run / "rounds.jsonl"
    path.write_bytes(path.read_bytes() + '{"policy":"γ'.encode()[:-1])
    assert len(RunFolder.read(run).rounds) == 45
    assert "torn" in caplog.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: expected a JSON object, got list"),
        ('{"policy":"u"}', "not a round"),
        ('{"policy":"u","prompt":"x","position":1,"token":1,"origin":"local"}', "not a round"),
        ('{"policy":"u","prompt":1,"colour":2}', "unknown colour: written by another version"),
    ],
)
def test_other_bad_line_is_refused_with_its_place(tmp_path, line, words):
    path = tmp_path / "rounds.jsonl"
    good = '{"policy":"u","prompt":1,"position":1,"token":1,"origin":"local"}\n'
    path.write_text(good + line + "\n" + good, encoding="utf-8")
    with pytest.raises(SampleFileError, match=words):
        Rounds.read(path)


def test_unknown_column_lists_the_known(run):
    with pytest.raises(InvalidRequestError, match=r"no column 'colour'.*x_d"):
        RunFolder.read(run).rounds.column("colour")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (("results.json",), "has not finished.*--resume"),
        (("results.json", "samples.jsonl"), "--output of an eval or a sweep"),
        (("rounds.jsonl",), "no rounds.jsonl: copy the whole folder"),
        (("samples.jsonl",), "no samples.jsonl"),
    ],
)
def test_missing_file_says_what_to_do(run, missing, words):
    for name in missing:
        (run / name).unlink()
    with pytest.raises(InvalidRequestError, match=words):
        RunFolder.read(run)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"no folder .*nowhere"):
        RunFolder.read(tmp_path / "nowhere")


def edited(run, edit):
    path = run / "results.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    edit(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return run


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d.pop("models"), "lacks models: written by another version"),
        (lambda d: d["policies"][0].update(shoes=2), "unknown .*shoes.*another version"),
        (lambda d: d["policies"].pop(), "lines of u, which results.json does not know"),
    ],
)
def test_results_of_another_version_or_run_are_refused(run, edit, words):
    with pytest.raises(InvalidRequestError, match=words):
        RunFolder.read(edited(run, edit))


def test_results_that_are_no_json_are_refused(run):
    (run / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=r"results\.json is not valid JSON"):
        RunFolder.read(run)


def test_reading_is_quick_enough_for_a_study(tmp_path):
    run = write_run(tmp_path)
    rounds_file = run / "rounds.jsonl"
    rounds_file.write_bytes(rounds_file.read_bytes() * 400)
    started_s = time.process_time()
    rounds = Rounds.read(rounds_file)
    # 250,000 lines in 5 s are 50,000 a second; half of that leaves room for a slow machine.
    assert len(rounds) / (time.process_time() - started_s) > 25_000
