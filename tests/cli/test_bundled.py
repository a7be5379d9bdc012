"""`uihlm-device eval` on the bundled pair: what a newcomer's first command does, only shorter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from same_runs import contents, unlike
from uihlm_cli.device import main
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES

# SmolLM2's vocabulary.
V = 49_152
EXAMPLES = [
    {"instruction": "Name the largest planet.", "input": "", "output": "Jupiter."},
    {"instruction": "Write the word in capitals.", "input": "river", "output": "RIVER"},
    {"instruction": "What colour is snow?", "input": "", "output": "White."},
]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_six_policies_on_the_bundled_pair_twice(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in EXAMPLES))
    for folder in ("first", "second"):
        # Quality is scored once: the encoder's loading is what costs.
        metrics = "--metrics" if folder == "first" else "--no-metrics"
        arguments = ["eval", "--dataset", str(prompts), "--max-tokens", "16", "--format", "json", metrics]
        result = CliRunner().invoke(main, [*arguments, "--output", str(tmp_path / folder)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        shown = json.loads(result.stdout)
        assert shown == json.loads((tmp_path / folder / "results.json").read_text(encoding="utf-8"))["policies"]

    document = json.loads((tmp_path / "first" / "results.json").read_text(encoding="utf-8"))
    policies = {entry["policy"]: entry for entry in document["policies"]}
    assert list(policies) == list(DEFAULT_POLICIES)
    assert document["failed"] == []
    assert [model["role"] for model in document["models"]] == ["slm", "llm"]
    assert len({model["sha256"] for model in document["models"]}) == 2
    for name, entry in policies.items():
        assert entry["prompts"] == 3
        assert 3 <= entry["tokens"] <= 3 * 16
        assert entry["model_bits"] == entry["uploaded"] * V * 32
        assert 0.0 < entry["bertscore_f1"]["mean"] <= 1.0
        assert -1.0 <= entry["cosine_similarity"]["mean"] <= 1.0
        assert entry["throughput_tok_s"] > 0
        # One forward for the prompt, at most one more a token.
        assert entry["llm_forwards_per_token"] <= 1.0 + 1e-9
        assert entry["energy_j"] > 0
        if name not in ("slm", "llm"):
            assert entry["rejected"] <= entry["uploaded"] <= entry["tokens"]
    assert policies["hlm"]["upload_rate"] == 1.0
    assert 0.0 < policies["hlm"]["reject_rate"] < 0.7, "the two models differ, and not by much"
    # A draft that ui uploads, u and i upload as well; the counts need not be nested, for answers drift apart.
    assert policies["ui"]["upload_rate"] < 1.0
    assert policies["slm"]["wire_bytes"] == policies["slm"]["bs_busy_s"] == 0
    assert policies["slm"]["energy_saving_ratio"] > policies["ui"]["energy_saving_ratio"] > 0.0
    # The paper's link: 32 · V bits at 174 kbit/s are 9 s a token; seconds pass on the virtual clock alone.
    assert policies["hlm"]["throughput_tok_s"] < 0.2 < policies["slm"]["throughput_tok_s"]

    samples = lines(tmp_path / "first" / "samples.jsonl")
    assert all(sample["text"].strip() for sample in samples)
    assert {line["origin"] for line in lines(tmp_path / "first" / "rounds.jsonl")} == {
        "local", "accepted", "resampled", "llm",
    }  # fmt: skip
    tokens = [
        [(line["policy"], line["prompt"], line["position"], line["token"]) for line in lines(tmp_path / name)]
        for name in ("first/rounds.jsonl", "second/rounds.jsonl")
    ]
    assert tokens[0] == tokens[1]


@pytest.mark.slow
def test_rebilled_run_equals_a_fresh_one_on_the_bundled_pair(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in EXAMPLES[:2]))
    fixed = ["--draft-time-s", "0.01", "--forward-time-s", "0.02", "--no-metrics", "--max-tokens", "12"]
    policies = [flag for name in ("llm", "hlm", "ui") for flag in ("--policy", name)]
    change = ["--link", "nr", "--fading", "slotted", "--fading-seed", "3", "--b-prob", "16"]
    saved, fresh, billed = (str(tmp_path / name) for name in ("saved", "fresh", "billed"))
    for arguments in (
        ["eval", "--dataset", str(prompts), *fixed, *policies, "--output", saved],
        ["eval", "--dataset", str(prompts), *fixed, *policies, *change, "--output", fresh],
        ["rebill", saved, *change, "--output", billed],
    ):
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert unlike(contents(saved)["results.json"], contents(fresh)["results.json"])
    assert unlike(contents(billed), contents(fresh)) == []
