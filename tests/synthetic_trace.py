"""Traces of a known law, for tests of what reads them."""

from __future__ import annotations

import numpy as np

from uihlm_evaluation.calibration.trace import Trace, TraceHeader

LAYERS = 4
HEADER = TraceHeader(0.6, 0, 1.0, "expected", "5" * 64, "7" * 64)


def trace_of(u, reject_prob, prompt=None, rejected=None, counts=None, hidden=None, header=HEADER) -> Trace:
    """A trace of these tokens; what is not given is the same for all."""
    n = len(u)
    prompt = np.zeros(n) if prompt is None else np.asarray(prompt)
    reject_prob = np.asarray(reject_prob, np.float64)
    step = np.concatenate([np.arange(c) for c in np.unique(prompt, return_counts=True)[1]])
    rows = [
        {
            "prompt": prompt[i], "position": 10 + step[i], "step": step[i], "draft": 5, "token": 6, "x_d": 0.5,
            "y_d": 0.5 * (1.0 - reject_prob[i]), "reject_prob": reject_prob[i], "tv": 0.25, "u": u[i],
            "rejected": reject_prob[i] > 0.5 if rejected is None else rejected[i],
            "entropy_nat": 1.0, "log_sum": 3.0, "top_ids": np.arange(8), "top_logits": np.linspace(2.0, 1.0, 8),
            "counts": np.zeros((LAYERS, 3, 3)) if counts is None else counts[i],
            "attention_entropy_nat": np.full(LAYERS, 2.0), "attention_max": np.full(LAYERS, 0.5),
            "hidden": None if hidden is None else hidden[i],
        }
        for i in range(n)
    ]  # fmt: skip
    return Trace.of_rows(header, rows)


def lawful(a=0.72, b=-0.05, prompts=60, tokens=60, seed=0, noise=0.15) -> Trace:
    """Tokens whose mean rejection probability is a·u + b, wherever that is a probability, with prompts of their own level."""
    generator = np.random.default_rng(seed)
    u = generator.uniform(max(0.0, -b / a) + 0.1, 1.0, prompts * tokens)
    prompt = np.repeat(np.arange(prompts), tokens)
    level = np.repeat(generator.uniform(-0.02, 0.02, prompts), tokens)
    beta = a * u + b + level + generator.uniform(-noise, noise, len(u)) * np.minimum(1.0, (a * u + b) / 0.2)
    beta = np.clip(beta, 0.0, 1.0)
    return trace_of(u, beta, prompt, generator.uniform(size=len(u)) < beta)
