"""Which draft tokens are uploaded. A policy is a pure function of what the device knows.

name        uploads a draft when                                     needs
llm         – the base station writes alone, the device prints       nothing
slm         never                                                    nothing
hlm         always                                                   nothing
u           u > θ_u                                                  uncertainty
i           at least k weights exceed θ_imp                          attention
ui          both (Eq. 7)                                             uncertainty, attention
confidence  1 − x_d > θ_c                                            the draft
random      a coin of weight `rate`                                  a coin
u-random    u > θ_u and a coin of weight `rate`                      uncertainty, a coin
learned     the predicted rejection is above its threshold           uncertainty, hidden state, the draft

Adding one: write a factory `PolicySettings -> Policy` and register it, here with `@register` or from another package
through the entry-point group `uihlm.policies`.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol

from uihlm_device.record import Float32Array
from uihlm_device.rules.predictor import LearnedFile
from uihlm_proto.errors import InvalidRequestError

ENTRY_POINT_GROUP = "uihlm.policies"


class Needs(enum.Flag):
    """What a policy must be told; it is computed only when asked for."""

    NOTHING = 0
    UNCERTAINTY = enum.auto()
    IMPORTANCE = enum.auto()
    LOGITS = enum.auto()
    HIDDEN = enum.auto()
    COIN = enum.auto()
    # The draft itself or its x_d, which a decision before the draw does not have.
    DRAFT = enum.auto()


class Mode(enum.Enum):
    """Who writes."""

    SPLIT = "split"
    EVERY_TOKEN = "every token"
    DEVICE_ALONE = "device alone"
    LLM_ALONE = "llm alone"


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Every knob of the built-in policies.

    Attributes:
        theta_u: θ_u, upload above this uncertainty.
        k: how many attention weights must exceed θ_imp.
        theta_c: `confidence`: upload above this 1 − x_d; 0.4 uploads about as many as θ_u = 0.58 does on the bundled pair.
        rate: `random`, `u-random`: probability of an upload.
        learned: weights of `learned`; None where there are none that were kept.
    """

    theta_u: float = 0.58
    k: int = 3
    theta_c: float = 0.4
    rate: float = 0.5
    learned: LearnedFile | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the device knows of a draft when it decides.

    Attributes:
        draft: the token id d; None where the decision comes before the draw, which a policy with Needs.DRAFT is refused.
        x_d: its probability under the distribution it was drawn from; None likewise.
        thin: uniform in (0, 1), keyed by position, for policies that toss a coin; None unless needed.
        u: uncertainty; None unless needed.
        importance: how many weights exceed θ_imp; None unless needed.
        logits: the raw logits `[V]` the draft was drawn from; None unless needed.
        hidden: the hidden state `[d_model]` those logits came from; None unless needed.
    """

    draft: int | None
    x_d: float | None
    thin: float | None
    u: float | None
    importance: int | None
    logits: Float32Array | None
    hidden: Float32Array | None


class Policy(Protocol):
    """An upload rule."""

    @property
    def needs(self) -> Needs:
        """What `uploads` must be told."""

    @property
    def mode(self) -> Mode:
        """Who writes: both ends, both with every token uploaded, the device alone, or the LLM alone."""

    def uploads(self, evidence: Evidence) -> bool:
        """Return δ: whether the draft is uploaded."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy made of one function."""

    uploads: Callable[[Evidence], bool]
    needs: Needs = Needs.NOTHING
    mode: Mode = Mode.SPLIT


Factory = Callable[[PolicySettings], Policy]
_BUILT_IN: dict[str, Factory] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Register a factory under a name."""

    def add(factory: Factory) -> Factory:
        _BUILT_IN[name] = factory
        return factory

    return add


def known(value: float | None) -> float:
    """Return a value the policy declared a need for; a missing one is a defect of the loop, not of the input."""
    assert value is not None, "the policy declares this need, so the decode loop supplies it"
    return value


@register("llm")
def _llm(settings: PolicySettings) -> Policy:
    return Rule(lambda evidence: False, mode=Mode.LLM_ALONE)


@register("slm")
def _slm(settings: PolicySettings) -> Policy:
    return Rule(lambda evidence: False, mode=Mode.DEVICE_ALONE)


@register("hlm")
def _hlm(settings: PolicySettings) -> Policy:
    return Rule(lambda evidence: True, mode=Mode.EVERY_TOKEN)


@register("u")
def _u(settings: PolicySettings) -> Policy:
    return Rule(lambda evidence: known(evidence.u) > settings.theta_u, Needs.UNCERTAINTY)


@register("i")
def _i(settings: PolicySettings) -> Policy:
    return Rule(lambda evidence: known(evidence.importance) >= settings.k, Needs.IMPORTANCE)


@register("ui")
def _ui(settings: PolicySettings) -> Policy:
    return Rule(
        lambda evidence: known(evidence.u) > settings.theta_u and known(evidence.importance) >= settings.k,
        Needs.UNCERTAINTY | Needs.IMPORTANCE,
    )


@register("confidence")
def _confidence(settings: PolicySettings) -> Policy:
    return Rule(lambda evidence: 1.0 - known(evidence.x_d) > settings.theta_c, Needs.DRAFT)


@register("random")
def _random(settings: PolicySettings) -> Policy:
    return Rule(lambda evidence: known(evidence.thin) < settings.rate, Needs.COIN)


@register("u-random")
def _u_random(settings: PolicySettings) -> Policy:
    return Rule(
        lambda evidence: known(evidence.u) > settings.theta_u and known(evidence.thin) < settings.rate,
        Needs.UNCERTAINTY | Needs.COIN,
    )


@register("learned")
def _learned(settings: PolicySettings) -> Policy:
    if settings.learned is None:
        raise InvalidRequestError(
            "policy `learned` has no weights: give the --profile of a calibration whose predictor was kept (`uihlm-device "
            "calibrate --learn` says), or --learned FILE to try one that was not"
        )
    # Read at the first decision: the settings of a saved run must make sense where the file is not.
    predictor = functools.cache(settings.learned.load)

    def uploads(evidence: Evidence) -> bool:
        assert evidence.hidden is not None, "the policy declares this need, so the decode loop supplies it"
        weights = predictor()
        return bool(weights.reject_prob(evidence.hidden, known(evidence.u), known(evidence.x_d)) > weights.threshold)

    return Rule(uploads, Needs.UNCERTAINTY | Needs.HIDDEN | Needs.DRAFT)


def names() -> list[str]:
    """Return every policy name: the built-in ones in the order above, then those of other packages."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - _BUILT_IN.keys()
    return [*_BUILT_IN, *sorted(others)]


def policy(name: str, settings: PolicySettings) -> Policy:
    """Return the policy of that name; InvalidRequestError lists the known ones."""
    if name in _BUILT_IN:
        return _BUILT_IN[name](settings)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            factory: Factory = point.load()
            return factory(settings)
    raise InvalidRequestError(f"unknown policy {name!r}: known are {', '.join(names())}")
