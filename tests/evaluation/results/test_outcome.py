"""The end of a run: `results.json` as the contract describes it, and the table beside it."""

from __future__ import annotations

import json

import pytest

from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.quality.metrics import TextScore
from uihlm_evaluation.results.outcome import ModelFacts, conclude
from uihlm_evaluation.results.scores import read_scores
from uihlm_evaluation.runs.configuration import RunConfig, Selection
from uihlm_evaluation.runs.samples import Sample, Stop
from uihlm_wireless.energy import JouleProfile

V = 100
DATASET = Dataset(tuple(Example(index, f"ask {index}", "", f"answer {index}") for index in (3, 5)), "mine.json")
MODELS = [ModelFacts("slm", "small", "a" * 64, None), ModelFacts("llm", "large", None, "c" * 40)]


def sample(policy: str, prompt: int, uploaded: int = 0, rejected: int = 0, **changes: object) -> Sample:
    values: dict[str, object] = {
        "text": f"{policy} on {prompt}", "reference": f"answer {prompt}", "tokens": 10, "stop": Stop.EOS,
        "model_bits": uploaded * V * 32, "payload_bits": uploaded * 40, "wire_bytes": uploaded * 9, "latency_s": 2.0,
        "draft_s": 0.5, "forward_s": 0.25, "queue_s": 0.0, "link_s": 0.5, "airtime_s": 0.25, "llm_forwards": 11,
        "llm_positions": 30, "bs_busy_s": 0.25,
    }  # fmt: skip
    return Sample(policy, prompt, uploaded=uploaded, rejected=rejected, **{**values, **changes})


SAMPLES = [
    sample("hlm", 3, 10, 4), sample("llm", 3, draft_s=0.0), sample("slm", 3, llm_forwards=0), sample("u", 3, 5, 2),
    sample("hlm", 5, 10, 2), sample("llm", 5, draft_s=0.0), sample("slm", 5, llm_forwards=0),
    sample("u", 5, 5, 1, stop=Stop.ERROR, error="the line is cut", latency_s=99.0),
]  # fmt: skip


class Metrics:
    """Scores by the length of the answer; counts what it is asked."""

    hash = "hash-of-the-encoder"
    notice = None

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[str]]] = []

    def score(self, candidates: list[str], references: list[str]) -> list[TextScore]:
        self.asked.append((candidates, references))
        scores = {
            "llm": TextScore(0.25, 0.125),
            "3": TextScore(0.5, 0.25),
            "5": TextScore(0.75, None),
            "": TextScore(None, None),
        }
        return [
            scores["llm" if reference.startswith("llm") else reference[-1:]]
            for _, reference in zip(candidates, references, strict=True)
        ]


def concluded(tmp_path, policies=("u", "slm", "llm", "hlm"), samples=SAMPLES, metrics=None, dataset=DATASET) -> dict:
    config = RunConfig(Selection(seed=8), policies, joules=JouleProfile(2.0, 10.0, 100.0))
    results = conclude(tmp_path, config, dataset, MODELS, V, samples, metrics)
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert document["policies"] == [result.to_json() for result in results]
    return document


def test_document_says_what_was_run_on_what_by_what(tmp_path):
    document = concluded(tmp_path)
    assert list(document) == [
        "config", "dataset", "models", "vocabulary_size", "provenance", "failed", "policies",
    ]  # fmt: skip
    assert document["vocabulary_size"] == V
    assert document["config"]["selection"]["seed"] == 8
    assert document["config"]["joules"] == {"transmit_w": 2.0, "device_w": 10.0, "basestation_w": 100.0}
    assert document["dataset"] == {
        "label": "mine.json", "prompts": 2, "indices": [3, 5], "sha256": DATASET.digest,
    }  # fmt: skip
    assert document["models"] == [
        {"role": "slm", "label": "small", "sha256": "a" * 64, "commit": None},
        {"role": "llm", "label": "large", "sha256": None, "commit": "c" * 40},
    ]
    assert document["provenance"]["packages"].keys() >= {"uihlm", "numpy", "grpcio"}
    assert {"git_commit", "git_dirty", "python", "cpu"} <= document["provenance"].keys()


def test_one_object_a_policy_in_the_order_asked_for(tmp_path):
    assert [entry["policy"] for entry in concluded(tmp_path)["policies"]] == ["u", "slm", "llm", "hlm"]


def test_failed_prompts_are_listed_and_counted_nowhere(tmp_path):
    document = concluded(tmp_path)
    assert document["failed"] == [{"policy": "u", "prompt": 5, "error": "the line is cut"}]
    u = document["policies"][0]
    assert (u["prompts"], u["tokens"], u["uploaded"], u["rejected"]) == (1, 10, 5, 2)
    assert u["latency_s"]["mean"] == 2.0


def test_savings_are_measured_against_the_runs_own_hlm(tmp_path):
    by_policy = {entry["policy"]: entry for entry in concluded(tmp_path)["policies"]}
    # A token of hlm: 126 for the upload, 350 · 6/20, 100. Of u: 63, 350 · 2/10, 100.
    assert by_policy["u"]["energy_saving_ratio"] == pytest.approx(1 - (63 + 70 + 100) / (126 + 105 + 100))
    assert by_policy["hlm"]["energy_saving_ratio"] == pytest.approx(0.0)
    assert by_policy["llm"]["energy_saving_ratio"] is None
    assert by_policy["hlm"]["energy_j"] == pytest.approx(2.0 * 0.5 + 10.0 * 1.0 + 100.0 * 0.5)
    alone = concluded(tmp_path, ("u",))["policies"]
    assert [entry["energy_saving_ratio"] for entry in alone] == [None]


def test_scores_are_asked_for_once_for_the_run_and_named(tmp_path):
    metrics = Metrics()
    document = concluded(tmp_path, metrics=metrics)
    ((candidates, references),) = metrics.asked
    pairs = list(zip(candidates, references, strict=True))
    # The failed answer of u is not scored; the LLM's own are compared with no other answer of its own.
    texts = ["u on 3", "", "slm on 3", "slm on 5", "llm on 3", "llm on 5", "hlm on 3", "hlm on 5"]
    assert pairs[:8] == [(text, f"answer {text[-1]}" if text else "") for text in texts]
    assert pairs[8:] == [(text, f"llm on {text[-1]}" if text and not text.startswith("llm") else "") for text in texts]
    slm = document["policies"][1]
    assert (slm["bertscore_f1"]["low"], slm["bertscore_f1"]["mean"]) == (0.5, 0.625)
    assert slm["cosine_similarity"]["mean"] == 0.25, "a prompt without a score is in no mean"
    assert document["provenance"]["metric_hash"] == "hash-of-the-encoder"
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "hash-of-the-encoder" in table
    assert [row.split()[1] for row in table.splitlines()[2:6]] == ["u", "slm", "llm", "hlm"]


def test_answers_are_compared_with_the_llms_own_where_there_are_any(tmp_path):
    by_policy = {entry["policy"]: entry for entry in concluded(tmp_path, metrics=Metrics())["policies"]}
    assert by_policy["slm"]["bertscore_f1_llm"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert by_policy["slm"]["cosine_similarity_llm"]["mean"] == 0.125
    assert by_policy["llm"]["bertscore_f1_llm"] is by_policy["llm"]["cosine_similarity_llm"] is None
    alone = concluded(tmp_path, ("slm", "hlm"), metrics=Metrics())["policies"]
    assert [entry["bertscore_f1_llm"] for entry in alone] == [None, None]


def test_accuracy_needs_no_metrics_and_is_null_without_targets(tmp_path):
    samples = [
        sample("slm", 3, text="It is 7 apples.", target="7"),
        sample("slm", 5, text="7", target="8 apples"),
        sample("llm", 3, text="7", target="7"),
        sample("llm", 5, text="8 Apples!", target="8 apples"),
        sample("hlm", 3, text="7"),
        sample("hlm", 5, text="8"),
    ]
    slm, llm, hlm = concluded(tmp_path, ("slm", "llm", "hlm"), samples)["policies"]
    assert (slm["exact_match"]["mean"], slm["last_number_accuracy"]["mean"]) == (0.0, 0.5)
    assert (llm["exact_match"]["mean"], llm["last_number_accuracy"]["mean"]) == (1.0, 1.0)
    assert hlm["exact_match"] is hlm["last_number_accuracy"] is None
    kept = read_scores(tmp_path / "scores.jsonl")
    assert kept["slm", 3] == {"exact_match": 0.0, "last_number_accuracy": 1.0}
    assert ("hlm", 3) not in kept


def test_log_probability_and_tv_are_means_over_the_prompts_that_have_one(tmp_path):
    samples = [
        sample("u", 3, 4, llm_log_prob=-0.5, tv=0.25),
        sample("u", 5, 0, llm_log_prob=-1.5),
        sample("slm", 3),
        sample("slm", 5),
    ]
    u, slm = concluded(tmp_path, ("u", "slm"), samples)["policies"]
    assert (u["llm_log_prob"]["mean"], u["llm_log_prob"]["low"], u["llm_log_prob"]["high"]) == (-1.0, -1.5, -0.5)
    assert u["tv"]["mean"] == 0.25
    assert slm["llm_log_prob"] is slm["tv"] is None


def test_without_metrics_scores_are_null(tmp_path):
    document = concluded(tmp_path)
    assert document["provenance"]["metric_hash"] is None
    for entry in document["policies"]:
        assert entry["bertscore_f1"] is entry["cosine_similarity"] is None


def test_run_in_which_nothing_worked_still_has_a_document(tmp_path):
    samples = [sample("hlm", index, tokens=0, stop=Stop.ERROR, error="no") for index in (3, 5)]
    document = concluded(tmp_path, ("hlm",), samples)
    (hlm,) = document["policies"]
    assert (hlm["prompts"], hlm["tokens"], hlm["upload_rate"], hlm["latency_s"]) == (0, 0, None, None)
    assert len(document["failed"]) == 2
    assert (tmp_path / "table.md").is_file()


def test_text_is_written_as_it_is(tmp_path):
    samples = [sample("hlm", 3, stop=Stop.ERROR, error="größer als 4 ≠ 5")]
    concluded(tmp_path, ("hlm",), samples)
    assert "größer als 4 ≠ 5" in (tmp_path / "results.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_every_seed_that_a_run_takes_can_be_concluded(tmp_path, seed):
    config = RunConfig(Selection(seed=seed), ("hlm",))
    samples = [sample("hlm", 3, latency_s=1.0), sample("hlm", 5, latency_s=2.0)]
    (result,) = conclude(tmp_path, config, DATASET, MODELS, V, samples, None)
    assert result.latency_s.mean == 1.5
