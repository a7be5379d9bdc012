"""Re-billing a study: rows of a grid, controls that were added later, samples in any order, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import fakes
from fakes import FakeDrafter, FakeEngine, contextual, mixed, serving
from same_runs import contents, lines, unlike
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.results.outcome import ModelFacts, conclude
from uihlm_evaluation.results.rebill import rebill
from uihlm_evaluation.results.saved import SavedRun
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.runner import Bench, run
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.sampling import Sampling
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

V = 32
TIMING = TimingProfile(0.01, 0.02)
ROWS = tuple(
    Row(label, policy, PolicySettings(theta_u=0.9, rate=rate))
    for label, policy, rate in (("hlm", "hlm", 0.5), ("random 0.3", "random", 0.3), ("random 0.8", "random", 0.8))
)
EXAMPLES = tuple(Example(index, "ask " * (index + 1), "", f"answer {index}") for index in (4, 7, 9))


def studied(output: Path, link: LinkSettings, *, run_on: bool = False) -> RunConfig:
    """A run of the grid, written as a sweep does: the last row came later, and prompts ended in another order."""
    config = RunConfig(
        decode=DecodeSettings(Sampling(), 6, run_on=run_on),
        link=link,
        timing=TIMING,
        grid=ROWS[:2],
        llm=None,
        model="fake",
    )
    engine = FakeEngine(mixed(contextual(V, 1), contextual(V, 2), 0.5), V)
    with (
        serving(engine) as address,
        fakes.Bench(address, FakeDrafter(contextual(V, 1), V), link=link, timing=TIMING) as device,
    ):
        decoders = {row.label: device.decoder(row.policy, 6, row.rules, run_on=run_on) for row in ROWS}
        bench = Bench(decoders, device.clock, device.ledger, lambda text: [5, *range(len(text) // 4)], str)
        run(bench, config, EXAMPLES, output, False, lambda progress: None)
        whole = dataclasses.replace(config, grid=ROWS)
        header = json.loads((output / "run.json").read_text())
        for name in ("samples.jsonl", "rounds.jsonl"):
            (output / name).rename(output / f"first-{name}")
        (output / "run.json").unlink()
        samples = run(bench, whole, EXAMPLES, output, False, lambda progress: None)
        (output / "run.json").write_text(json.dumps(header, indent=1))
    for path in output.glob("first-*"):
        path.unlink()
    facts = [ModelFacts("slm", "fake", None, None)]
    conclude(output, whole, Dataset(EXAMPLES, "fake"), facts, V, samples, None)
    path = output / "samples.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[::-1]))
    return whole


@pytest.mark.parametrize("run_on", [False, True])
def test_study_equals_a_fresh_one_on_the_other_link(tmp_path, run_on):
    # Where the LLM runs on, it matters that the trip takes less than the forward.
    studied(tmp_path / "saved", profile("paper"), run_on=run_on)
    other = LinkSettings(radio=None, rtt_s=0.004) if run_on else profile("lpwan")
    config = studied(tmp_path / "fresh", other, run_on=run_on)
    rebill(SavedRun.read(tmp_path / "saved"), config, tmp_path / "billed")
    assert unlike(contents(tmp_path / "billed"), contents(tmp_path / "fresh")) == []
    uploads = [entry["uploaded"] for entry in contents(tmp_path / "billed")["results.json"]["policies"]]
    assert uploads[0] > uploads[2] > uploads[1] > 0
    assert not (tmp_path / "billed.new").exists()


def test_only_prices_may_change(tmp_path):
    config = studied(tmp_path / "saved", profile("paper"))
    other = dataclasses.replace(config, codec="dense16")
    with pytest.raises(InvalidRequestError, match="billed again by link, timing, joules, clock alone"):
        rebill(SavedRun.read(tmp_path / "saved"), other, tmp_path / "billed")
    assert not (tmp_path / "billed").exists()


def test_a_folder_in_the_way_is_not_touched(tmp_path):
    config = studied(tmp_path / "saved", profile("paper"))
    mine = tmp_path / "billed.new" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(InvalidRequestError, match=r"billed\.new is in the way"):
        rebill(SavedRun.read(tmp_path / "saved"), config, tmp_path / "billed")
    assert mine.read_text() == "mine"


def test_files_that_do_not_fit_are_refused(tmp_path):
    saved = tmp_path / "saved"
    config = studied(saved, profile("paper"))
    rounds = (saved / "rounds.jsonl").read_text()

    def refused(name: str, text: str, part: str) -> None:
        before = (saved / name).read_text()
        (saved / name).write_text(text)
        with pytest.raises(InvalidRequestError, match=part):
            rebill(SavedRun.read(saved), config, tmp_path / "billed")
        (saved / name).write_text(before)
        assert [path.name for path in tmp_path.iterdir()] == ["saved"]

    refused("rounds.jsonl", rounds.partition("\n")[2], "disagree on the tokens of prompt 4 under hlm")
    refused("rounds.jsonl", "".join(rounds.splitlines(keepends=True)[:-1]), "disagree on the tokens of prompt 9")
    refused(
        "rounds.jsonl", rounds.replace('"uplink_wire_bytes"', '"up"', 1), "line 1: not a round .it lacks uplink_wire"
    )
    sample = lines(saved / "samples.jsonl")[0]
    refused("samples.jsonl", json.dumps(sample) + "\n", "not of the same rows")
    results = json.loads((saved / "results.json").read_text())
    refused("results.json", json.dumps({**results, "vocabulary_size": None} | {"dataset": {}})[:-9], "not valid JSON")
    del results["vocabulary_size"]
    refused("results.json", json.dumps(results), "lacks vocabulary_size: written by another version")
    header = json.loads((saved / "run.json").read_text())
    header["config"]["codec"] = "coupled"
    refused("run.json", json.dumps(header), "have other settings")
    (saved / "results.json").unlink()
    with pytest.raises(InvalidRequestError, match="has not finished; go on with it by --resume"):
        SavedRun.read(saved)
