"""`uihlm-device plan`: what its flags do, and what `--measure` finds on a fake pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_pair import endless, installed
from uihlm_cli.device import main
from uihlm_evaluation.calibration.profile import load_profile
from uihlm_evaluation.planning.bundled import bundled_profile


def plan(*flags: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["plan", *map(str, flags)])
    assert result.exit_code == code, result.output
    return result


def best(*flags: object) -> dict[str, object]:
    return json.loads(plan(*flags, "--format", "json").stdout)


def test_with_no_flags_it_plans_the_bundled_pair():
    result = plan()
    assert "llm *" in result.stdout and "use the LLM alone" in result.stdout
    assert "figures of the bundled pair, measured 2026-" in result.stderr


def test_a_slow_llm_makes_drafts_pay():
    slow = best("--forward-time-s", "0.3", "--position-time-s", "0.01", "--draft-time-s", "0.01")
    assert slow["best"].startswith("hlm") and slow["flags"].startswith("--policy hlm --")
    assert best("--forward-time-s", "0.3", "--position-time-s", "0.01", "--rtt-s", "3")["best"] == "llm"


def test_snr_sets_what_the_channel_carries():
    ways = {}
    for snr_db in (0, 20):
        found = best("--bandwidth-hz", "1000", "--snr-db", snr_db)
        ways[snr_db] = {way["way"]: way["tok_s"] for way in found["ways"]}
    assert ways[0]["hlm, waits"] < ways[20]["hlm, waits"] and ways[0]["llm"] == ways[20]["llm"]


def test_other_codecs_have_their_own_size_and_acceptance_and_no_trees():
    coupled, dense = best("--link", "paper"), best("--link", "paper", "--codec", "dense32")
    assert not any("tree" in way["way"] for way in dense["ways"])
    sizes = {
        name: next(w for w in found["ways"] if w["way"] == "hlm, waits")
        for name, found in (("c", coupled), ("d", dense))
    }
    assert sizes["c"]["payload_bit"] == 16 and sizes["d"]["payload_bit"] > 1.5e6
    assert sizes["d"]["tok_s"] < 0.2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--snr-db", "3", "--noise-dbm", "-100"), "--snr-db and --noise-dbm say the same"),
        (("--measure",), "--measure writes a profile into --output DIR"),
        (("--output", "x"), "--measure writes a profile into --output DIR"),
        (("--position-time-s", "0.1"), "give the first one's with --forward-time-s"),
        (("--draft-time-s", "0"), "give a time above 0"),
        (("--forward-time-s", "0"), "give a time above 0"),
        (("--model", "mine.gguf"), "a plan goes by figures"),
        (("--server", "127.0.0.1:1"), "a plan goes by figures"),
        (("--map", "map.jpg"), "must end in .svg or .png, got map.jpg"),
        (("--clock", "simulated"), "No such option"),
    ],
)
def test_mistakes_are_usage_errors(flags, sentence):
    assert sentence in plan(*flags, code=2).stderr


def test_profile_without_figures_says_how_to_get_them(tmp_path):
    replace(bundled_profile(), plan=None).save(tmp_path)
    assert "plan --measure" in plan("--profile", tmp_path, code=2).stderr


def test_measure_finds_the_figures_of_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights = installed(monkeypatch, tmp_path)

    weights.speaks = endless
    slm, llm = (replace(end, sha256=None) for end in (bundled_profile().slm, bundled_profile().llm))
    replace(bundled_profile(), slm=slm, llm=llm, plan=None).save(tmp_path)
    data = tmp_path / "prompts.json"
    data.write_text(json.dumps([{"instruction": f"Why {n}?", "input": "", "output": ""} for n in range(6)]))
    output = tmp_path / "measured"
    flags = ("--measure", "--profile", tmp_path, "--output", output, "--dataset", data, "--answer-tokens", "64")
    result = plan(*flags, "--load", "4")
    found = load_profile(output).plan
    assert found is not None and found.prompts == 6 and found.vocabulary_size == 128
    assert 0.1 < found.acceptance < 0.9 and found.draft_s > 0.0 and found.forward_s > 0.0
    assert [point.sessions for point in found.load] == [1, 2, 4]
    assert all(1.0 < tree.tokens <= tree.nodes + 1 and tree.drafter_calls >= 1.0 for tree in found.trees)
    assert [tree.tokens for tree in found.trees] == sorted(tree.tokens for tree in found.trees)
    assert len(found.skipping) == 1, "the profile's own threshold: there was no trace beside it"
    assert "measuring 4 at once …" in result.stderr and f"use it with --profile {output}" in result.stderr
