"""Trace packs: made through the real loop and base station, split by prompt, the same from either file."""

import json

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from trace_packs import lawful_pack, pack_of, saved
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.rules.uncertainty import Estimator
from uihlm_evaluation.calibration.profile import ProfileModel
from uihlm_evaluation.calibration.trace import TraceError, TraceHeader
from uihlm_evaluation.calibration.tracing import Tracer, TraceSettings
from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.runs.configuration import RunConfig, Selection
from uihlm_evaluation.traces.columns import MEANINGS, VERDICT
from uihlm_evaluation.traces.manifest import Manifest, Store
from uihlm_evaluation.traces.pack import PackSettings, Side, load_pack, make_pack
from uihlm_evaluation.traces.split import held_out
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.sampling import Sampling

V = 96
SMALL = contextual(V, 1)
EXAMPLES = Dataset(tuple(Example(index, f"prompt {index}", "", "") for index in (2, 5, 7, 9)), "four prompts")
SAMPLING = Sampling(0.8)


@pytest.fixture(scope="module")
def bench():
    engine = FakeEngine(mixed(SMALL, contextual(V, 2), 0.3), V)
    with serving(engine) as address, Bench(address, FakeDrafter(SMALL, V), sampling=SAMPLING) as bench:
        yield bench


def made(bench, output, resume=False, store=Store.NPZ, hidden=True, share=0.5, failing=(), seen=None):
    def first_turn(text):
        if text in failing:
            raise InvalidRequestError("no answer to that")
        if seen is not None:
            seen.append(text)
        return [4, 5, int(text.split()[1])]

    def decoder(drafter, policy, decode):
        b = bench
        return Decoder(
            drafter, b.codec, policy, decode, b.clock, b.ledger, b.timing, lambda: b.connection.session(b.contract)
        )

    config = RunConfig(Selection(seed=3), ("hlm",), DecodeSettings(SAMPLING, max_tokens=8))
    settings = PackSettings(
        TraceSettings(config, TraceHeader.of(SAMPLING, Estimator.EXPECTED, "5", None), hidden),
        ProfileModel("small", "5"), ProfileModel("large", None), share, store,
    )  # fmt: skip
    tracer = Tracer(lambda policy: bench.drafter, decoder, first_turn)
    return make_pack(tracer, settings, EXAMPLES, output, resume, lambda progress: None)


def same(first, second):
    ours, theirs = first.trace.columns(), second.trace.columns()
    assert ours.keys() == theirs.keys() and first.trace.header == second.trace.header
    for name, column in ours.items():
        assert column.dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(column, theirs[name])
    assert Manifest.from_json(first.manifest.to_json()) == second.manifest


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("store", Store)
def test_pack_loads_back_as_it_was_made(bench, tmp_path, store, hidden):
    pack = made(bench, tmp_path / "p", store=store, hidden=hidden)
    same(pack, load_pack(tmp_path / "p"))
    assert (pack.trace.hidden is not None) == hidden
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == sorted(
        ["manifest.json", "trace.json", f"trace.{store.value}"]
    )


def test_prompts_are_on_the_side_their_text_says(bench, tmp_path):
    pack = made(bench, tmp_path / "p")
    expected = {example.index for example in EXAMPLES.examples if held_out(example.user_turn)}
    assert set(pack.manifest.held_out) == expected and 0 < len(expected) < 4
    held, train = pack.side(Side.HELD_OUT), pack.side(Side.TRAIN)
    assert set(held.prompt.tolist()) == expected
    assert set(train.prompt.tolist()) == {2, 5, 7, 9} - expected
    assert len(held) + len(train) == len(pack.side(Side.ALL)) == len(pack.trace)


def test_a_side_without_prompts_is_refused(bench, tmp_path):
    pack = made(bench, tmp_path / "p", share=1.0)
    with pytest.raises(TraceError, match=r"no train prompts \(held-out share 1 of 4 prompts\): trace more"):
        pack.side(Side.TRAIN)


def test_manifest_says_what_made_it(bench, tmp_path):
    made(bench, tmp_path / "p")
    said = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert said["format"] == 1 and said["seed"] == 3 and said["dataset"] == "four prompts"
    assert said["slm"] == ["small", "5"] and said["llm"] == ["large", None]
    assert said["config"]["decode"]["max_tokens"] == 8 and "uihlm" in said["provenance"]["packages"]
    assert sorted(said["train"] + said["held_out"]) == [2, 5, 7, 9]
    columns = {column["name"]: column for column in said["columns"]}
    assert columns.keys() == MEANINGS.keys() and columns["top_logits"]["shape"] == [64]
    assert columns.keys() >= VERDICT


def test_resume_answers_only_what_is_missing_and_may_change_the_store(bench, tmp_path):
    first = made(bench, tmp_path / "p", failing=["prompt 7"], store=Store.PARQUET)
    assert first.manifest.failed == ((7, "no answer to that"),)
    assert 7 not in first.manifest.train + first.manifest.held_out
    seen: list[str] = []
    whole = made(bench, tmp_path / "p", resume=True, store=Store.PARQUET, seen=seen)
    assert seen == ["prompt 7"] and not whole.manifest.failed
    again = made(bench, tmp_path / "p", resume=True, store=Store.NPZ, seen=seen)
    assert seen == ["prompt 7"]
    same(again, load_pack(tmp_path / "p"))
    same(again, made(bench, tmp_path / "fresh"))


def test_a_pack_is_not_overwritten(bench, tmp_path):
    made(bench, tmp_path / "p", store=Store.PARQUET)
    with pytest.raises(InvalidRequestError, match="add --resume"):
        made(bench, tmp_path / "p")


def test_parquet_reads_without_this_project(bench, tmp_path):
    from pyarrow import parquet

    pack = made(bench, tmp_path / "p", store=Store.PARQUET)
    table = parquet.read_table(tmp_path / "p" / "trace.parquet")
    assert table.num_rows == len(pack.trace)
    np.testing.assert_array_equal(np.array(table["held_out"]), pack.held_out)
    assert table["top_logits"][3].as_py() == pack.trace.top_logits[3].tolist()


def test_what_is_no_pack_is_refused_with_a_reason(tmp_path):
    with pytest.raises(TraceError, match=r"there is no trace pack in .*: make one with `uihlm-device trace"):
        load_pack(tmp_path)
    folder = saved(lawful_pack(4, 5), tmp_path / "p")
    text = (folder / "manifest.json").read_text()
    for wrong, reason in (
        (text.replace('"format": 1', '"format": 9'), "expected a pack of format 1, got 9"),
        (text.replace('"tokens": 20', '"tokens": 21'), "speaks of 21 tokens of 4 prompts, the rows beside it are 20"),
        (text.replace('"dataset"', '"data"'), "it cannot be read"),
        ("[]", "it cannot be read"),
        ("words", "it cannot be read"),
    ):
        assert wrong != text
        (folder / "manifest.json").write_text(wrong)
        with pytest.raises(TraceError, match=reason):
            load_pack(folder)


def test_rows_of_another_file_are_refused(tmp_path):
    folder = saved(lawful_pack(4, 5), tmp_path / "p")
    (folder / "trace.parquet").write_bytes(b"words")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"store": "parquet"}))
    with pytest.raises(TraceError, match="is no trace in Parquet"):
        load_pack(folder)


def test_held_out_prompts_are_those_of_the_manifest():
    pack = pack_of(lawful_pack(6, 3).trace, held_out=[0, 5])
    assert set(pack.side(Side.HELD_OUT).prompt.tolist()) == {0, 5}
