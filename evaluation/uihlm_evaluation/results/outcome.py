"""The end of a run: scores, `results.json` and `table.md` from the samples in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uihlm_evaluation.prompts.datasets import Dataset
from uihlm_evaluation.quality.answers import Answer, AnswerScore, score_answers
from uihlm_evaluation.quality.metrics import TextMetrics
from uihlm_evaluation.results.policy_result import HLM, LLM, PolicyResult, summarise
from uihlm_evaluation.results.scores import SCORES, write_scores
from uihlm_evaluation.results.table import markdown
from uihlm_evaluation.results.totals import Bill, Totals
from uihlm_evaluation.runs import provenance
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import Sample
from uihlm_evaluation.whole_files import write_whole

RESULTS, TABLE = "results.json", "table.md"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a result says of one model.

    Attributes:
        role: `slm` or `llm`.
        label: what the user named, in words.
        sha256: of the weights; None where they are not on this machine.
        commit: on the hub; None if it did not come from there.
    """

    role: str
    label: str
    sha256: str | None
    commit: str | None


def conclude(
    output: Path,
    config: RunConfig,
    dataset: Dataset,
    models: Sequence[ModelFacts],
    vocabulary_size: int,
    samples: Sequence[Sample],
    metrics: TextMetrics | None,
    meter: dict[str, Any] | None = None,
) -> list[PolicyResult]:
    """Score the samples, write `results.json`, `scores.jsonl` and `table.md` into `output`, return one result a policy.

    Args:
        output: the run's folder.
        config: its settings.
        dataset: the prompts that were selected.
        models: the weights at both ends.
        vocabulary_size: V.
        samples: of every policy, in any order.
        metrics: text scores; None leaves them null.
        meter: what measured joules come from, as plain values (uihlm_evaluation/runs/meters.py); None without a meter.
    """
    by_row = {row: [sample for sample in samples if sample.policy == row.label] for row in config.rows}
    hlm = next((Totals.of(own) for row, own in by_row.items() if row.policy == HLM), None)
    bill = Bill(vocabulary_size, hlm, config.joules)
    # A seed may be negative; NumPy, which draws the intervals, takes none that is.
    bootstrap_seed = config.selection.seed % 2**64
    scores = _scores(by_row, metrics)
    results = [summarise(row, own, scores[row], bill, bootstrap_seed) for row, own in by_row.items()]
    scored = [
        (sample, score)
        for row, own in by_row.items()
        for sample, score in zip(own, scores[row], strict=True)
        if score.known
    ]
    # An earlier end of this run may have left scores that no longer belong to its results.
    write_scores(output / SCORES, [sample for sample, _ in scored], [score for _, score in scored])
    metric_hash = None if metrics is None else metrics.hash
    document: dict[str, Any] = {
        "config": config.to_dict(),
        "dataset": {
            "label": dataset.label,
            "prompts": len(dataset.examples),
            "indices": [example.index for example in dataset.examples],
            "sha256": dataset.digest,
        },
        "models": [asdict(model) for model in models],
        "vocabulary_size": vocabulary_size,
        "provenance": provenance.collect(metric_hash).to_json(),
        "failed": [
            {"policy": sample.policy, "prompt": sample.prompt, "error": sample.error}
            for sample in samples
            if sample.failed
        ],
        "policies": [result.to_json() for result in results],
    }
    if meter is not None:
        document["meter"] = meter
    publish(output, document, results)
    return results


def publish(output: Path, document: dict[str, Any], results: Sequence[PolicyResult]) -> None:
    """Write the document of `results.json`, and `table.md` beside it."""
    write_whole(output / RESULTS, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(output / TABLE, markdown(results, document["provenance"]["metric_hash"]))


def _scores(by_row: Mapping[Row, Sequence[Sample]], metrics: TextMetrics | None) -> dict[Row, Sequence[AnswerScore]]:
    """Return the scores of every answer, in the order of each row's samples."""
    alone = next((own for row, own in by_row.items() if row.policy == LLM), [])
    by_llm = {sample.prompt: sample.text for sample in alone if not sample.failed}
    flat = iter(
        score_answers(
            [
                # A failed answer counts nowhere: it is not worth its encoding.
                Answer("", "")
                if s.failed
                else Answer(s.text, s.reference, s.target, None if row.policy == LLM else by_llm.get(s.prompt))
                for row, own in by_row.items()
                for s in own
            ],
            metrics,
        )
    )
    return {row: [next(flat) for _ in own] for row, own in by_row.items()}
