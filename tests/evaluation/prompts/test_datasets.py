"""Data sets: what is read, what is refused and in which words, and which prompts a selection takes."""

import json
import sys
import types

import pytest

from uihlm_evaluation.prompts import datasets, hub
from uihlm_evaluation.prompts.datasets import Dataset, DatasetError, Example, load, select
from uihlm_evaluation.prompts.files import parse


@pytest.fixture(autouse=True)
def forget_the_hub():
    hub.hub_obstacle.cache_clear()
    yield
    hub.hub_obstacle.cache_clear()


def rows(count):
    return [{"instruction": f"ask {i}", "input": "", "output": f"answer {i}"} for i in range(count)]


def of_size(count, **more):
    return Dataset(parse(json.dumps(rows(count)), "test"), "test", **more)


def indices(dataset):
    return [example.index for example in dataset.examples]


def test_user_turn_is_instruction_blank_line_input():
    assert Example(0, "Sum up.", "A text.", "").user_turn == "Sum up.\n\nA text."
    assert Example(0, "Sum up.", "", "").user_turn == "Sum up."
    assert Example(0, "Sum up.", " \n", "").user_turn == "Sum up."


def test_json_list_and_jsonl_give_the_same_examples(tmp_path):
    listed, lined = tmp_path / "set.json", tmp_path / "set.jsonl"
    odd = [*rows(2), {"instruction": "a\u2028b", "output": ""}]
    listed.write_text("\ufeff" + json.dumps(odd, indent=1), encoding="utf-8")
    lined.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in odd) + "\n\n", encoding="utf-8")
    assert load(str(listed)).examples == load(str(lined)).examples
    assert indices(load(str(lined))) == [0, 1, 2]
    assert load(str(listed)).digest == load(str(lined)).digest != of_size(3).digest


def test_label_of_a_file_names_no_folder(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(rows(1)))
    assert load(str(path)).label == "mine.json"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            '{"instruction": "a", "output": "b"}\n\n{"instruction": "a"}',
            ["f, line 3", '"output" is missing', "expected"],
        ),
        (
            '[{"instruction": "a", "output": "b"}, {"instruction": 3, "output": "b"}]',
            ["f, index 1", "'3'", "not a string"],
        ),
        ('[{"instruction": "a", "output": null}]', ["f, index 0", '"output" is missing']),
        ('[{"instruction": " ", "output": "b"}]', ["f, index 0", "empty"]),
        ("[1]", ["f, index 0", "'1'", "expected an object"]),
        ('{"instruction": "a", "output": "b"}\n{"instr', ["f, line 2", "not valid JSON", '{"instr']),
        ('[{"instruction":\n"a" "b"}]', ["f, line 2", "not valid JSON"]),
        ("[]", ["f: has no examples"]),
        ("", ["f: has no examples"]),
    ],
)
def test_what_is_not_the_format_is_refused_with_its_place(text, parts):
    with pytest.raises(DatasetError) as caught:
        parse(text, "f")
    for part in parts:
        assert part in str(caught.value)


def test_missing_and_undecodable_files_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no data set 'nowhere\.json': expected 'alpaca'"):
        load("nowhere.json")
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'[{"instruction": "caf\xe9", "output": ""}]')
    with pytest.raises(DatasetError, match="not UTF-8"):
        load(str(latin))


def test_alpaca_offline_is_the_shipped_set_with_a_notice(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: object())
    dataset = load("alpaca")
    assert "HF_HUB_OFFLINE is set" in dataset.notice
    assert "shipped" in dataset.notice
    assert len(dataset.examples) == 100
    assert load("shipped").notice is None


def test_alpaca_without_a_parquet_reader_says_which_package_is_missing(monkeypatch):
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    assert "pyarrow" in load("alpaca").notice


def test_alpaca_in_the_cache_is_read_at_the_pinned_revision_without_the_hub(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").touch()
    asked = {}

    def snapshot_download(repository, **settings):
        asked.update(settings, repository=repository)
        return str(tmp_path)

    table = types.SimpleNamespace(to_pylist=lambda: rows(150))
    parquet = types.ModuleType("pyarrow.parquet")
    parquet.read_table = lambda path: table
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "pyarrow", types.ModuleType("pyarrow"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    monkeypatch.setattr(hub, "hub_obstacle", lambda: pytest.fail("the hub was asked"))
    dataset = load("alpaca")
    assert dataset.notice is None
    assert len(dataset.examples) == 150
    assert len(select(dataset).examples) == 100
    assert asked["repository"] == "tatsu-lab/alpaca"
    assert asked["repo_type"] == "dataset"
    assert asked["revision"] == datasets.ALPACA_REVISION
    assert asked["local_files_only"] is True


def test_gsm8k_in_the_cache_is_the_test_split_of_its_pinned_revision(monkeypatch, tmp_path):
    """Read by the real loader from a real Parquet file."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "main").mkdir()
    for split in ("test", "train"):
        rows = [{"question": f"{split} {n}?", "answer": f"so <<{n}={n}>>{n}\n#### {n},000"} for n in range(1, 131)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "main" / f"{split}-00000-of-00001.parquet")
    asked = {}

    def snapshot_download(repository, **settings):
        asked.update(settings, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    dataset = load("gsm8k")
    assert (asked["repository"], asked["revision"]) == ("openai/gsm8k", datasets.GSM8K_REVISION)
    assert asked["local_files_only"] is True
    assert len(dataset.examples) == 130
    assert len(select(dataset).examples) == 100
    assert dataset.label == "openai/gsm8k (main, test)"
    assert dataset.examples[6] == Example(6, "test 7?", "", "so 7\n7,000", "7,000")


def test_gsm8k_that_cannot_be_had_says_why_and_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(
        DatasetError, match=r"HF_HUB_OFFLINE is set; put openai/gsm8k at cc7b047 .* --dataset arithmetic"
    ):
        load("gsm8k")


def test_hub_that_never_answers_is_given_up_in_time(monkeypatch):
    import threading
    import time

    session = types.SimpleNamespace(head=lambda url, timeout: threading.Event().wait(30))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: session)
    start = time.monotonic()
    assert "did not answer within 0.1 s" in hub.hub_obstacle(0.1)
    assert time.monotonic() - start < 2.0


def test_path_runs_whole_and_alpaca_takes_its_default_limit():
    assert len(select(of_size(250)).examples) == 250
    assert indices(select(of_size(250, default_limit=100))) == list(range(100))
    assert len(select(of_size(250, default_limit=100), limit=200).examples) == 200
    assert len(select(of_size(250, default_limit=100), sample=120).examples) == 120


def test_index_is_the_place_in_the_file_whatever_is_selected():
    assert indices(select(of_size(10), limit=3, offset=4)) == [4, 5, 6]
    chosen = select(of_size(50), sample=5, seed=1, offset=20)
    assert all(example.instruction == f"ask {example.index}" and example.index >= 20 for example in chosen.examples)


def test_draw_depends_on_the_seed_alone_and_grows_by_adding():
    few, many = (indices(select(of_size(200), sample=n, seed=3)) for n in (10, 40))
    assert few == sorted(few)
    assert few == indices(select(of_size(200), sample=10, seed=3))
    assert set(few) < set(many)
    assert few != indices(select(of_size(200), sample=10, seed=4))


def test_draw_is_the_same_on_every_platform():
    dataset = Dataset(tuple(Example(index, "a", "", "") for index in range(52002)), "test")
    assert indices(select(dataset, sample=6, seed=0)) == [7125, 28051, 33809, 36599, 36848, 42556]


def test_draw_is_even():
    hits = [0] * 20
    for seed in range(500):
        for index in indices(select(of_size(20), sample=5, seed=seed)):
            hits[index] += 1
    # Binomial(500, 1/4): mean 125, σ 9.7.
    assert all(125 - 45 < hit < 125 + 45 for hit in hits)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"limit": 0}, "limit must be 1 or more"),
        ({"sample": -1}, "sample must be 1 or more"),
        ({"offset": -1}, "offset must be 0 or more"),
        ({"offset": 5}, "leaves nothing"),
        ({"sample": 4, "offset": 2}, "cannot draw 4"),
    ],
)
def test_impossible_selections_are_refused(settings, part):
    with pytest.raises(DatasetError, match=part):
        select(of_size(5), **settings)
