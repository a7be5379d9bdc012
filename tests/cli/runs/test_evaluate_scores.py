"""How `eval` scores answers: by the LLM, by the target of a task, by encoders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from evaluating import PROMPTS, TIMED, by_policy, done, evaluate, fixed, lines, results
from fake_pair import AsciiTokenizer, chatty
from fakes import mixed, serving
from stations import eventually
from uihlm_evaluation.quality.metrics import TextScore

pytestmark = pytest.mark.usefixtures("weights")


def test_llm_scores_the_tokens_of_each_answer_unbilled_and_untimed(prompts, weights):
    flags = ("--dataset", prompts, "--policy", "ui", "--policy", "llm", "--theta-u", "0.3", *TIMED)
    assert "the LLM scored 6 answers in" in done(*flags, "--output", "with").stderr
    assert "the LLM scored" not in done(*flags, "--output", "without", "--no-agreement").stderr
    logits = mixed(chatty(1), chatty(2), 0.4)
    rounds = lines("with/rounds.jsonl")
    for scored, plain in zip(fixed("with/samples.jsonl"), fixed("without/samples.jsonl"), strict=True):
        own = [r for r in rounds if (r["policy"], r["prompt"]) == (scored["policy"], scored["prompt"])]
        row = PROMPTS[scored["prompt"]]
        turn = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
        ids = AsciiTokenizer().encode(f"[{turn}]>")
        scores = []
        for line in own:
            z = logits(ids).astype(np.float64)
            scores.append(z[line["token"]] - np.log(np.exp(z).sum()))
            ids.append(line["token"])
        # At temperature 1, whatever the answer was drawn at, and of EOS too.
        assert scored["llm_log_prob"] == pytest.approx(np.mean(scores), abs=1e-4)
        known = [line["tv"] for line in own if "tv" in line]
        assert scored["tv"] == (pytest.approx(np.mean(known)) if known else None)
        assert scored | {"llm_log_prob": None} == plain
    assert [fixed(f"{folder}/rounds.jsonl") for folder in ("with", "without")] == [fixed("with/rounds.jsonl")] * 2
    entries = by_policy("with")
    assert entries["ui"]["llm_log_prob"]["mean"] < 0 < entries["ui"]["tv"]["mean"] < 1
    assert entries["llm"]["tv"] is by_policy("without")["ui"]["llm_log_prob"] is None
    assert "ln P_LLM/token" in Path("with/table.md").read_text()
    # Nothing of it is left at the base station.
    assert eventually(lambda: all(engine.sessions == {} for engine in weights.engines))


def test_without_a_base_station_nothing_is_scored_and_a_note_says_so(prompts, weights):
    result = done("--dataset", prompts, "--policy", "slm")
    assert "note: no policy here asks a base station, so no LLM scores the answers" in result.stderr
    assert by_policy()["slm"]["llm_log_prob"] is None
    assert weights.engines == []


def test_task_is_scored_by_its_target_without_any_encoder(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for form in ("table", "md", "json"):
        result = done("--dataset", path, "--policy", "slm", "--policy", "llm", "--output", form, "--format", form)
        if form == "table":
            assert re.search(r"exact +last", result.stdout)
            assert "cosine" not in result.stdout
        if form == "md":
            assert "| exact match | last number |" in result.stdout
    assert [(s["target"], s["reference"]) for s in lines("json/samples.jsonl")][::2] == [
        (str(n + 1), f"{n} + 1 = {n + 1}\n{n + 1}") for n in range(3)
    ]
    for entry in by_policy("json").values():
        assert entry["exact_match"].keys() == entry["last_number_accuracy"].keys() == {"mean", "low", "high"}
    kept = lines("json/scores.jsonl")
    assert len(kept) == 6
    assert kept[0].keys() >= {"exact_match", "last_number_accuracy"}


def test_bad_row_of_a_task_is_named_with_file_and_line(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?", "answer": " #### "}\n')
    result = evaluate("--dataset", path, "--policy", "slm")
    assert result.exit_code == 1
    assert f'{path}, line 2: "answer" is empty after ####' in result.stderr


def test_gsm8k_that_cannot_be_had_is_an_error_and_no_other_set(monkeypatch):
    monkeypatch.setattr("uihlm_evaluation.prompts.datasets.hub_rows", lambda *where: ("the hub is away", None))
    result = evaluate("--dataset", "gsm8k")
    assert (result.exit_code, Path("run").exists()) == (1, False)
    assert "gsm8k: the hub is away" in result.stderr
    assert "--dataset arithmetic" in result.stderr


def test_scores_come_with_the_name_of_their_encoder(prompts, monkeypatch):
    class Metrics:
        hash = "encoder-7"
        notice = "the small encoder"

        def score(self, candidates, references):
            return [TextScore(0.5, 0.25) if reference else TextScore(None, None) for reference in references]

    monkeypatch.setattr("uihlm_evaluation.quality.metrics.TextMetrics", Metrics)
    result = done("--dataset", prompts, "--policy", "slm", "--metrics")
    assert "note: the small encoder" in result.stderr
    assert by_policy()["slm"]["bertscore_f1"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert by_policy()["slm"]["cosine_similarity"]["mean"] == 0.25
    assert results()["provenance"]["metric_hash"] == "encoder-7"
    assert "encoder-7" in Path("run/table.md").read_text()


def test_model_in_another_process_has_no_hash_here(prompts, weights):
    with serving(weights.engine()) as address:
        done("--dataset", prompts, "--policy", "hlm", "--server", address)
    assert [model["role"] for model in results()["models"]] == ["slm"]
    assert results()["config"]["llm"] is None
    assert len(weights.engines) == 1, "no local base station beside the named one"
