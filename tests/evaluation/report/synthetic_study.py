"""A made-up sweep in memory: the paper's grid, `llm` and two controls, with the paper's rates and noise between prompts."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.quality.bootstrap import mean_interval
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.rounds import NUMBERS, Rounds
from uihlm_evaluation.report.table_one import table_one
from uihlm_evaluation.results.policy_result import summarise
from uihlm_evaluation.results.totals import Bill, Totals
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import Sample, Stop

V = 49_152
UPLOAD_S = 9.03
DRAFT_S = 0.012
FORWARD_S = 0.02


def grid():
    """The rows of a study with their upload rate, reject rate and quality, all 0 … 1."""
    rows = [(Row("llm", "llm"), 0.0, 0.0, 0.722)]
    for paper in table_one():
        rules = PolicySettings(k=paper.k) if paper.k else PolicySettings()
        knobs = (f" k={paper.k}" if paper.k else "") + (f" γ={paper.gamma:g}" if paper.policy == "ui" else "")
        quality = 0.67 + 0.048 * (paper.bertscore_pct - 84.9) / 2.7
        row = Row(paper.policy + knobs, paper.policy, rules, paper.gamma or 1.0)
        rows.append((row, paper.upload_rate, paper.reject_rate, quality))
    for rate, quality in ((0.29, 0.695), (0.46, 0.702)):
        rows.append((Row(f"random rate={rate:g}", "random", PolicySettings(rate=rate)), rate, 0.36, quality))
    return rows


def answer(label, prompt, tokens, uploaded, rejected, alone=False):
    """A sample with costs by hand: 12 ms a draft, 9.03 s an upload, 20 ms a forward."""
    forwards = tokens if alone else uploaded
    latency = (0.0 if alone else tokens * DRAFT_S + uploaded * UPLOAD_S) + forwards * FORWARD_S
    return Sample(
        policy=label, prompt=prompt, text="an answer", reference="another", tokens=tokens, uploaded=uploaded,
        rejected=rejected, stop=Stop.LENGTH, model_bits=uploaded * V * 32, payload_bits=uploaded * (V * 32 + 16),
        wire_bytes=uploaded * V * 4, latency_s=latency, draft_s=tokens * DRAFT_S, forward_s=forwards * FORWARD_S,
        queue_s=0.0, link_s=uploaded * UPLOAD_S, airtime_s=uploaded * UPLOAD_S, llm_forwards=forwards,
        llm_positions=forwards, bs_busy_s=forwards * FORWARD_S,
    )  # fmt: skip


def study(prompts=100, rows=None, scored=True, rounds=True):
    """Return a run folder that no file stands behind."""
    random = np.random.default_rng(7)
    rows = grid() if rows is None else rows
    length = random.integers(20, 97, prompts)
    mood = random.normal(0.0, 0.05, prompts)
    own, scores = {}, {}
    for row, upload_rate, reject_rate, quality in rows:
        uploaded = random.binomial(length, upload_rate)
        rejected = random.binomial(uploaded, reject_rate)
        own[row.label] = [
            answer(
                row.label, prompt, int(length[prompt]), int(uploaded[prompt]), int(rejected[prompt]), row.label == "llm"
            )
            for prompt in range(prompts)
        ]
        f1 = quality + mood + random.normal(0.0, 0.02, prompts)
        scores[row.label] = mean_interval(f1) if scored else None
    hlm = Totals.of(own["hlm"]) if "hlm" in own else None
    results = tuple(
        replace(summarise(row, own[row.label], None, Bill(V, hlm)), bertscore_f1=scores[row.label]) for row, *_ in rows
    )
    return RunFolder(
        path=Path("runs/synthetic"),
        document={
            "vocabulary_size": V,
            "provenance": {"metric_hash": "all-MiniLM-L6-v2_L5_synthetic"},
            "config": {"selection": {"seed": 0}},
        },
        results=results,
        samples=tuple(sample for samples in own.values() for sample in samples),
        rounds=attention_rounds([row.label for row, *_ in rows], length if rounds else length[:0]),
    )


def attention_rounds(labels, length, first_position=50):
    """Rounds of one row, the first of `i`: entropy grows with the step, the largest weight falls."""
    prompt = np.repeat(np.arange(len(length)), length)
    step = np.concatenate([np.arange(n) for n in length]) if len(length) else np.zeros(0, np.int64)
    random = np.random.default_rng(8)
    n = len(prompt)
    row = labels.index("i k=3") if "i k=3" in labels else 0
    numbers = {name: np.full(n, np.nan) for name in NUMBERS}
    numbers["attention_entropy"] = 0.6 + 0.006 * step + random.normal(0.0, 0.25, n)
    numbers["attention_max"] = np.clip(0.9 - 0.002 * step + random.normal(0.0, 0.05, n), 0.0, 1.0)
    return Rounds(
        tuple(labels), np.full(n, row, np.int32), ("local",), np.zeros(n, np.int32),
        prompt.astype(np.int64), (step + first_position).astype(np.int32), np.zeros(n, np.int32), numbers,
    )  # fmt: skip
