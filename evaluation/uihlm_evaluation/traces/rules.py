"""A rule puts draft tokens in order: one number a token, the higher the sooner uploaded.

rule        its number                                     fitted to the train side
u           uncertainty                                    –
confidence  1 − x_d                                        –
entropy     entropy of softmax(z), nats                    –
i           attention weights above θ_imp                  –
ui          u, every token of k or more weights first      –
learned     predicted rejection, from the hidden state     yes
random      the same for all: chance                       –
oracle      the rejection probability itself               (knows the verdict)

Adding one: a function `Seen -> [T]`, named through the entry-point group `uihlm.rules` of any package, or given as
`module:function` or `file.py:function`. If it has an attribute `fit`, that is called with the train side's `Trace` and returns
the rule; it may look at verdicts there, the rule never can.

A rule is not yet a policy. A policy (group `uihlm.policies`) decides one token at a time on the device, so it has a
threshold and asks only for what the loop computes; a rule has no threshold, so it is scored at every upload rate at
once. Score an idea as a rule; what wins becomes a policy: the same formula on `Evidence`, and a threshold.
`policy:NAME` scores a policy as it is, at its one rate (`uihlm_evaluation.traces.policies`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from uihlm_device.drafters.loading import default_layer
from uihlm_device.rules.importance import Readout
from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.calibration.learned import train
from uihlm_evaluation.calibration.resampling import FloatArray
from uihlm_evaluation.calibration.trace import Trace, TraceError, TraceHeader
from uihlm_evaluation.traces.columns import VERDICT
from uihlm_proto.errors import InvalidRequestError

ENTRY_POINT_GROUP = "uihlm.rules"
ORACLE, RANDOM = "oracle", "random"

# What `learned` sets its threshold for; the order of tokens does not depend on it.
_ANY_RATE = 0.5


class RuleError(InvalidRequestError):
    """A rule that cannot be found, or that gives no number a token."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """T draft tokens as the device knows them before it decides: the columns of `Trace` without the verdict's.

    Attributes:
        header: what holds for every row.
        prompt, position, step, draft: which token, `[T]`.
        x_d, u, entropy_nat, log_sum: `[T]`.
        top_ids, top_logits: `[T, 64]`.
        counts: `[T, layer, readout, gamma]`.
        attention_entropy_nat, attention_max: `[T, layer]`.
        hidden: `[T, d_model]`; None if it was not kept.
    """

    header: TraceHeader
    prompt: npt.NDArray[np.int32]
    position: npt.NDArray[np.int32]
    step: npt.NDArray[np.int32]
    draft: npt.NDArray[np.int32]
    x_d: npt.NDArray[np.float32]
    u: npt.NDArray[np.float32]
    entropy_nat: npt.NDArray[np.float32]
    log_sum: npt.NDArray[np.float32]
    top_ids: npt.NDArray[np.int32]
    top_logits: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint16]
    attention_entropy_nat: npt.NDArray[np.float32]
    attention_max: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.float16] | None = None

    @classmethod
    def of(cls, trace: Trace) -> Self:
        """Return what a trace tells without its verdicts."""
        columns = {name: column for name, column in trace.columns().items() if name not in VERDICT}
        return cls(trace.header, **columns)

    def __len__(self) -> int:
        """Return the number of tokens T."""
        return len(self.prompt)


ScoringRule = Callable[[Seen], npt.NDArray[Any]]


def importance(seen: Trace | Seen, layer: int | None = None, gamma: float = 1.0) -> npt.NDArray[np.uint16]:
    """Return the weights above θ_imp of each token `[T]`, reading `heads`; the layer defaults to that of every command.

    Raises:
        TraceError: if the trace was not made for that γ or layer.
    """
    layers = seen.counts.shape[1]
    layer = default_layer(layers) if layer is None else layer
    try:
        readout, place = seen.header.readouts.index(Readout.HEADS.value), seen.header.gammas.index(gamma)
    except ValueError as error:
        raise TraceError(f"the trace has no counts of reading heads at γ = {gamma:g}") from error
    if layer >= layers:
        raise TraceError(f"the trace has {layers} layers, got layer {layer}")
    return seen.counts[:, layer, readout, place]


def _ui(seen: Seen) -> FloatArray:
    # u is at most 1, so that this puts every important token before the others.
    return seen.u.astype(np.float64) + 2.0 * (importance(seen) >= PolicySettings().k)


def _learned(trace: Trace) -> ScoringRule:
    predictor = train(trace, _ANY_RATE)

    def score(seen: Seen) -> FloatArray:
        if seen.hidden is None:
            raise TraceError("rule `learned` reads hidden states, which this pack was made without")
        return predictor.reject_prob(seen.hidden, seen.u, seen.x_d)

    return score


class _Fitted:
    """A rule that is nothing before it is fitted."""

    def __init__(self, fit: Callable[[Trace], ScoringRule]) -> None:
        self.fit = fit


BUILT_IN: dict[str, ScoringRule | _Fitted] = {
    "u": lambda seen: seen.u,
    "confidence": lambda seen: 1.0 - seen.x_d,
    "entropy": lambda seen: seen.entropy_nat,
    "i": importance,
    "ui": _ui,
    "learned": _Fitted(_learned),
    RANDOM: lambda seen: np.zeros(len(seen)),
}


def names() -> list[str]:
    """Return every rule name: ours in the order above, then those of other packages; the oracle is always scored."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - BUILT_IN.keys()
    return [*BUILT_IN, *sorted(others)]


def is_fitted(name: str) -> bool:
    """Return whether a rule is nothing before it is fitted; RuleError if there is no such rule."""
    return hasattr(_found(name), "fit")


def numbers(name: str, train_side: Callable[[], Trace], seen: Seen) -> FloatArray:
    """Return a rule's number for each token `[T]`.

    Args:
        name: of a rule, or `module:function`, or `file.py:function`.
        train_side: gives the rows that a rule may be fitted to.
        seen: the tokens to score.

    Raises:
        RuleError: if there is no such rule, or it does not give one finite number a token.
        TraceError: if it needs what the pack lacks.
    """
    rule: Any = _found(name)
    if hasattr(rule, "fit"):
        rule = rule.fit(train_side())
    scores = np.asarray(rule(seen), np.float64)
    if scores.shape != (len(seen),):
        raise RuleError(f"rule {name} must give one number a token, shape [{len(seen)}], got {list(scores.shape)}")
    if not np.isfinite(scores).all():
        raise RuleError(f"rule {name} gives {scores[~np.isfinite(scores)][0]} for a token: numbers must be finite")
    return scores


def _found(name: str) -> Any:
    if name in BUILT_IN:
        return BUILT_IN[name]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            return point.load()
    if ":" in name:
        return _imported(name)
    raise RuleError(
        f"unknown rule {name!r}: known are {', '.join(names())}, {ORACLE}; of your own: module:function, file.py:function, or "
        f"an entry point in group {ENTRY_POINT_GROUP}; policy:NAME scores a policy"
    )


def _imported(name: str) -> Any:
    place, _, function = name.rpartition(":")
    try:
        module = _of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        return getattr(module, function)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise RuleError(f"rule {name} cannot be loaded: {error}") from error


def _of_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"uihlm_rule_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their own module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
