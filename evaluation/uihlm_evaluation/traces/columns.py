"""What each column of a trace means, and which of them the device knows when it decides."""

from __future__ import annotations

from uihlm_evaluation.calibration.trace import TOP_LOGITS, Trace
from uihlm_evaluation.traces.manifest import Column

MEANINGS: dict[str, str] = {
    "prompt": "index of the prompt in its data set",
    "position": "absolute position of the token, counted from the first prompt token",
    "step": "decoding step, 0 for the first token of an answer",
    "draft": "id of the draft token d",
    "token": "id that was committed: d, or what the LLM put in its place",
    "rejected": "whether the draft was rejected",
    "x_d": "probability of d under the drafter's sampling distribution x",
    "y_d": "probability of d under the LLM's sampling distribution y",
    "reject_prob": "rejection probability 1 − min(1, y_d/x_d)",
    "tv": "total variation between x and y",
    "u": "uncertainty of d",
    "entropy_nat": "entropy of softmax(z), z the raw logits, nats",
    "log_sum": "log Σ exp z, nats",
    "top_ids": f"ids of the {TOP_LOGITS} largest raw logits, largest first",
    "top_logits": "those logits, nats",
    "counts": "attention weights above θ_imp, by layer, reading of the attention, and γ",
    "attention_entropy_nat": "entropy of the head-averaged attention row, by layer, nats",
    "attention_max": "largest weight of that row, by layer",
    "hidden": "the drafter's last hidden state, the one z comes from",
}

# What the verdict tells: a rule that looked at these would foresee nothing.
VERDICT = frozenset({"token", "rejected", "y_d", "reject_prob", "tv"})


def described(trace: Trace) -> tuple[Column, ...]:
    """Return the columns of a trace with their types, shapes and meanings."""
    return tuple(
        Column(name, column.dtype.str, column.shape[1:], MEANINGS[name]) for name, column in trace.columns().items()
    )
