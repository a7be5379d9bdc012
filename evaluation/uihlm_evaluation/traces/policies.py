"""What a policy would have uploaded of a trace, without a model: `uihlm_device.rules.policies` on its rows.

A policy has one threshold, so it has one upload rate. The coin of those that toss one is the device's own, keyed by prompt
and position. All 64 logits of a row are not all of z: a policy that needs the logits is refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uihlm_device.rules.policies import Evidence, Mode, Needs, PolicySettings, policy
from uihlm_evaluation.calibration.trace import Trace, TraceError
from uihlm_evaluation.traces.rules import RuleError, importance
from uihlm_proto.randomness import Role, session_key, uniform

PREFIX = "policy:"


def decisions(name: str, trace: Trace, seed: int, settings: PolicySettings = PolicySettings()) -> npt.NDArray[np.bool_]:
    """Return whether a policy uploads each token, `[T]`.

    Args:
        name: as `--policy` of other commands takes it.
        trace: the tokens.
        seed: of the trace, for the coin.
        settings: the policy's knobs.

    Raises:
        InvalidRequestError: if there is no such policy.
        RuleError: for a policy that does not choose tokens, or that needs the logits.
        TraceError: if it needs a hidden state and none was kept.
    """
    if name == "learned":
        raise RuleError(
            "a policy's weights are not part of a pack: score the rule `learned`, fitted to the pack's other side"
        )
    rule = policy(name, settings)
    if rule.mode is Mode.LLM_ALONE:
        raise RuleError(f"policy {name} uploads no drafts: there is nothing to score")
    if Needs.LOGITS in rule.needs:
        raise RuleError(f"policy {name} needs every logit, of which a trace keeps the largest 64: score it as a rule")
    if Needs.HIDDEN in rule.needs and trace.hidden is None:
        raise TraceError(f"policy {name} reads hidden states, which this pack was made without")
    counts = importance(trace) if Needs.IMPORTANCE in rule.needs else None
    keys = {int(prompt): session_key(seed, int(prompt)) for prompt in np.unique(trace.prompt)}
    uploaded, u = np.zeros(len(trace), np.bool_), trace.exact_u
    for row in range(len(trace)):
        thin = None
        if Needs.COIN in rule.needs:
            thin = uniform(keys[int(trace.prompt[row])], Role.THIN, int(trace.position[row]))
        evidence = Evidence(
            draft=int(trace.draft[row]),
            x_d=float(trace.x_d[row]),
            thin=thin,
            u=float(u[row]),
            importance=None if counts is None else int(counts[row]),
            logits=None,
            hidden=None if trace.hidden is None else trace.hidden[row].astype(np.float32),
        )
        uploaded[row] = rule.uploads(evidence)
    return uploaded
