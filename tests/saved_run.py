"""A finished run on disk, small and made up: what the report's tests read."""

import json

from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.quality.answers import AnswerScore
from uihlm_evaluation.results.policy_result import summarise
from uihlm_evaluation.results.scores import write_scores
from uihlm_evaluation.results.totals import Bill, Totals
from uihlm_evaluation.runs.configuration import RunConfig, Selection
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.runner import RoundLine
from uihlm_evaluation.runs.samples import RoundWriter, Sample, SampleWriter, Stop

WORDS = ["The", " sky", " is", " blue", "."]
PROVENANCE = {
    "python": "CPython 3.11", "platform": "Linux x86_64", "cpu": "a processor", "cpu_count": 2,
    "packages": {"uihlm": "0.1.0", "numpy": "2.0"}, "git_commit": "c" * 40, "git_dirty": False,
    "metric_hash": "encoder_L5",
}  # fmt: skip


def sample(policy, prompt, **changes):
    values = {
        "text": "The sky is blue.", "reference": "Blue.", "tokens": len(WORDS), "uploaded": 2, "rejected": 1,
        "stop": Stop.LENGTH, "model_bits": 640, "payload_bits": 64, "wire_bytes": 90, "latency_s": 2.0, "draft_s": 0.5,
        "forward_s": 0.25, "queue_s": 0.0, "link_s": 1.0, "airtime_s": 0.5, "llm_forwards": 2, "llm_positions": 6,
        "bs_busy_s": 0.25,
    }  # fmt: skip
    return Sample(policy=policy, prompt=prompt, **{**values, **changes})


def records(uploads=(1, 3), reject_prob=0.5, **changes):
    """Return the tokens of an answer: those at `uploads` judged, the last of them replaced."""
    for place in range(len(WORDS)):
        judged = place in uploads
        origin = Origin.LOCAL if not judged else Origin.RESAMPLED if place == uploads[-1] else Origin.ACCEPTED
        asked = {"y_d": 0.4, "tv": 0.3, "reject_prob": reject_prob, "round": 1, "model_bits": 320} if judged else {}
        known = {"x_d": 0.8 - 0.1 * place, "u": 0.1 * place, "importance": place, "draft_s": 0.1, **asked, **changes}
        yield TokenRecord(10 + place, 100 + place, origin=origin, uploaded=judged, **{"round": None, **known})


def write_run(folder, rows=None, prompts=3, tokens=records, text="The sky is blue.", metrics=True, **changes):
    """Write a run's folder: every row gives the same answer to every prompt, saved for `changes` of its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows or [Row.of("slm"), Row.of("hlm"), Row.of("u")]
    config = RunConfig(Selection("mine.json", seed=7), tuple(dict.fromkeys(row.policy for row in rows)))
    samples = []
    with SampleWriter(folder / "samples.jsonl") as answers, RoundWriter(folder / "rounds.jsonl") as rounds:
        for prompt in range(prompts):
            for row in rows:
                for record in tokens():
                    rounds.append(RoundLine.of(row.label, prompt, record))
                samples.append(sample(row.label, prompt, text=text, **changes))
                answers.append(samples[-1])
    scores = [AnswerScore(0.7 + 0.01 * one.prompt, 0.5) for one in samples]
    write_scores(folder / "scores.jsonl", samples if metrics else [], scores if metrics else [])
    results = []
    for row in rows:
        own = [index for index, one in enumerate(samples) if one.policy == row.label]
        totals = Totals.of([one for one in samples if one.policy == "hlm"])
        quality = [scores[index] for index in own] if metrics else None
        results.append(summarise(row, [samples[index] for index in own], quality, Bill(10, totals)).to_json())
    document = {
        "config": config.to_dict(),
        "dataset": {"label": "mine.json", "prompts": prompts, "indices": list(range(prompts)), "sha256": "d" * 64},
        "models": [{"role": "slm", "label": "small <one>", "sha256": "a" * 64, "commit": None}],
        "vocabulary_size": 10,
        "provenance": PROVENANCE,
        "failed": [],
        "policies": results,
    }
    (folder / "results.json").write_text(json.dumps(document), encoding="utf-8")
    return folder
