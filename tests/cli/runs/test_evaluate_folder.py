"""What `eval` writes: a folder whose lines and totals agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluating import DENSE_BIT, PROMPTS, TIMED, by_policy, done, lines, results
from fake_pair import AsciiTokenizer
from stations import eventually
from uihlm_device.tokens import Origin
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES

ROUND_FIELDS = {"policy", "prompt", "position", "token", "origin", "uploaded"} | {
    "draft_s", "forward_s", "queue_s", "link_s", "model_bits", "payload_bits", "wire_bytes",
}  # fmt: skip
POLICY_FIELDS = {
    "policy", "row", "k", "gamma", "theta_u", "theta_c", "rate",
    "prompts", "tokens", "uploaded", "rejected", "upload_rate", "reject_rate", "acceptance_rate",
    "bertscore_f1", "cosine_similarity", "bertscore_f1_llm", "cosine_similarity_llm", "exact_match",
    "last_number_accuracy", "llm_log_prob", "tv", "energy_saving_ratio", "energy_j", "throughput_tok_s",
    "throughput_paper_tok_s", "latency_s", "llm_forwards_per_token", "llm_positions_per_token", "bs_busy_s",
    "model_bits", "payload_bits", "wire_bytes", "skipped_risk",
    "audit_coverage", "audit_bits", "audit_rows", "outage_tokens", "lost_links",
    "transmit_j", "device_j", "basestation_j", "measured_j", "measured_device_j", "measured_basestation_j",
    "measured_machine_j",
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("weights")


def test_folder_holds_one_line_a_sample_and_one_a_token(prompts):
    done("--dataset", prompts)
    assert sorted(path.name for path in Path("run").iterdir()) == [
        "results.json", "rounds.jsonl", "run.json", "samples.jsonl", "scores.jsonl", "table.md",
    ]  # fmt: skip
    samples, rounds = lines("run/samples.jsonl"), lines("run/rounds.jsonl")
    # Prompts are the outer loop; policies come in the order asked for.
    assert [(s["prompt"], s["policy"]) for s in samples] == [(i, name) for i in range(3) for name in DEFAULT_POLICIES]
    assert [(r["prompt"], r["policy"]) for r in rounds] == [
        (s["prompt"], s["policy"]) for s in samples for _ in range(s["tokens"])
    ]
    assert {s["stop"] for s in samples} == {"eos", "length"}, "both ends of an answer are tried here"
    for sample in samples:
        assert sample["reference"] == PROMPTS[sample["prompt"]]["output"]
        assert (sample["tokens"] == 8) or sample["stop"] == "eos"


def test_rounds_hold_the_fields_that_the_contract_names(prompts):
    done("--dataset", prompts, "--policy", "ui", "--policy", "hlm", "--policy", "llm", "--theta-u", "0.3")
    rounds = lines("run/rounds.jsonl")
    for line in rounds:
        assert line.keys() >= ROUND_FIELDS
        own = line["policy"]
        drafted, asked = own != "llm", line["origin"] != "local"
        assert line["uploaded"] == (drafted and asked)
        assert ("x_d" in line) == drafted
        assert {"u", "importance", "attention_entropy", "attention_max"} <= line.keys() if own == "ui" else True
        assert ("u" in line) == (own == "ui"), "computed only when asked for"
        for name in ("y_d", "reject_prob", "tv"):
            assert (name in line) == line["uploaded"]
        assert ("round" in line) == asked
        assert (line["model_bits"] == DENSE_BIT) == line["uploaded"]
    assert {line["origin"] for line in rounds if line["policy"] == "ui"} >= {"local", "accepted"}
    assert {line["origin"] for line in rounds if line["policy"] == "llm"} == {"llm"}
    assert {line["origin"] for line in rounds} <= set(Origin)


def test_positions_count_on_from_the_prompt_and_tokens_are_the_text(prompts):
    done("--dataset", prompts, "--policy", "hlm")
    for sample in lines("run/samples.jsonl"):
        own = [line for line in lines("run/rounds.jsonl") if line["prompt"] == sample["prompt"]]
        row = PROMPTS[sample["prompt"]]
        turn = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
        assert [line["position"] for line in own] == [len(f"[{turn}]>") + i for i in range(sample["tokens"])]
        assert sample["text"] == AsciiTokenizer().decode([line["token"] for line in own])
        assert [line["round"] for line in own] == list(range(1, sample["tokens"] + 1))


def test_results_hold_every_field_and_llm_and_slm_their_nulls(prompts):
    done("--dataset", prompts, "--seed", "5", *TIMED)
    document = results()
    assert document.keys() >= {"config", "dataset", "models", "provenance", "failed", "policies"}
    assert document["config"]["selection"]["seed"] == 5
    assert document["config"]["decode"]["max_tokens"] == 8
    assert document["failed"] == []
    assert document["dataset"]["indices"] == [0, 1, 2]
    assert [(model["role"], model["label"]) for model in document["models"]] == [
        ("slm", "bundled drafter"),
        ("llm", "bundled target"),
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", model["sha256"]) for model in document["models"])
    assert document["provenance"].keys() >= {"packages", "git_commit", "git_dirty", "metric_hash"}
    assert [entry["policy"] for entry in document["policies"]] == list(DEFAULT_POLICIES)
    for entry in document["policies"]:
        assert entry.keys() == POLICY_FIELDS
        assert entry["bertscore_f1"] is entry["cosine_similarity"] is None, "no metrics were asked for"
        assert entry["latency_s"].keys() == {"mean", "low", "high"}
    llm, slm, hlm = (by_policy()[name] for name in ("llm", "slm", "hlm"))
    assert (llm["uploaded"], llm["rejected"], llm["upload_rate"], llm["skipped_risk"]) == (0, 0, 0.0, 0.0)
    nulls = ("reject_rate", "acceptance_rate", "energy_saving_ratio", "throughput_paper_tok_s")
    assert [llm[name] for name in nulls] == [None] * 4
    assert (slm["uploaded"], slm["upload_rate"], slm["reject_rate"], slm["acceptance_rate"]) == (0, 0.0, None, None)
    assert (slm["model_bits"], slm["wire_bytes"], slm["llm_forwards_per_token"], slm["bs_busy_s"]) == (0, 0, 0.0, 0.0)
    assert slm["energy_saving_ratio"] > 0
    assert slm["skipped_risk"] is None, "it skips, and nobody audited it"
    assert slm["throughput_paper_tok_s"] == pytest.approx(1 / 1.901)
    # The drafter's own time and nothing else: 0.01 s a token.
    assert slm["throughput_tok_s"] == pytest.approx(100.0)
    assert (hlm["upload_rate"], hlm["energy_saving_ratio"], hlm["skipped_risk"]) == (1.0, 0.0, 0.0)
    assert hlm["throughput_paper_tok_s"] == pytest.approx(1 / (1.901 + 2.119))


def test_totals_of_rounds_samples_and_results_agree(prompts, weights):
    done("--dataset", prompts, "--policy", "all", "--theta-u", "0.4", "--rate", "0.7", "--no-agreement")
    samples, rounds = lines("run/samples.jsonl"), lines("run/rounds.jsonl")
    for name, entry in by_policy().items():
        own = [sample for sample in samples if sample["policy"] == name]
        tokens = [line for line in rounds if line["policy"] == name]
        total = {key: sum(sample[key] for sample in own) for key in own[0] if isinstance(own[0][key], int | float)}
        assert entry["tokens"] == total["tokens"] == len(tokens)
        assert entry["uploaded"] == total["uploaded"] == sum(line["uploaded"] for line in tokens)
        assert entry["rejected"] == total["rejected"] == sum(line["origin"] == "resampled" for line in tokens)
        accepted = sum(line["origin"] == "accepted" for line in tokens)
        assert entry["uploaded"] == accepted + entry["rejected"]
        for key in ("model_bits", "payload_bits"):
            assert entry[key] == total[key] == sum(line[key] for line in tokens)
        assert entry["model_bits"] == entry["uploaded"] * DENSE_BIT
        # Connecting belongs to no token: its prefill and its bytes stand in the sample alone.
        prefills = 0 if name == "slm" else len(own)
        assert total["llm_forwards"] == sum(line["llm_forwards"] for line in tokens) + prefills
        assert entry["llm_forwards_per_token"] == pytest.approx(total["llm_forwards"] / entry["tokens"])
        assert entry["llm_positions_per_token"] == pytest.approx(total["llm_positions"] / entry["tokens"])
        opening = entry["wire_bytes"] - sum(line["wire_bytes"] for line in tokens)
        assert entry["wire_bytes"] == total["wire_bytes"]
        assert opening > 0 if prefills else opening == 0
    assert any(0 < entry["rejected"] < entry["uploaded"] < entry["tokens"] for entry in by_policy().values())
    # What the policies are billed for is what the engine ran, to the position.
    (engine,) = weights.engines
    assert sum(sample["llm_forwards"] for sample in samples) == len(engine.batches)
    assert sum(sample["llm_positions"] for sample in samples) == sum(len(work.new_ids) for work in engine.log)
    assert eventually(lambda: engine.sessions == {}), "every session is closed"
