"""Every setting of a run, with its default, in one place."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Self

from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.runs.rows import Row
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.sampling import Sampling
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.settings import LinkSettings
from uihlm_wireless.timing import TimingProfile

# In the order of the paper's table, the rival that needs no device first among the remote ones.
DEFAULT_POLICIES = ("slm", "llm", "hlm", "u", "i", "ui")


class ClockMode(enum.Enum):
    """Whether link seconds pass on a virtual clock or in real time."""

    SIMULATED = "simulated"
    ENFORCED = "enforced"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which prompts.

    Attributes:
        dataset: `alpaca` or a path.
        limit: at most so many, after `offset`; None is all of a path, 100 of `alpaca`.
        offset: leave out so many first.
        sample: draw so many at random by `seed` instead.
        seed: of the draw of prompts and of every token.

    Raises:
        InvalidRequestError: for a seed that session keys cannot hold.
    """

    dataset: str = "alpaca"
    limit: int | None = None
    offset: int = 0
    sample: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not -(2**63) <= self.seed < 2**63:
            raise InvalidRequestError(f"seed must fit 64 bits with sign, got {self.seed}")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One evaluation run.

    Attributes:
        selection: which prompts.
        policies: in the order they are run and reported.
        decode: how tokens are drawn.
        rules: the knobs of the policies.
        grid: rows of a sweep, which then stand in place of `policies`.
        profile: SHA-256 of the calibrated profile that knobs were taken from; None without one.
        codec: uplink codec.
        link: the radio link.
        clock: simulated or enforced.
        timing: fixed compute times, where measured ones are not wanted.
        joules: watts of the physical energy profile.
        model: the drafter, as --model names it.
        llm: the LLM, as --llm names it; None where a server was named.
        llm_dtype: in which type the local LLM's weights run; None is as the file has them.
        layer: the attention layer read; None is the model's default.
        threads: CPU threads of each model; 0 takes every core.
        backend: `llama` or `torch`; None goes by the form of the weights.
        agreement: whether the LLM scores each answer after it, unbilled.
        meter: what measures joules, `zeus` or `csv`; None where they are modelled alone.
    """

    selection: Selection = Selection()
    policies: tuple[str, ...] = DEFAULT_POLICIES
    decode: DecodeSettings = field(default_factory=lambda: DecodeSettings(Sampling(temperature=0.6), run_on=True))
    rules: PolicySettings = PolicySettings()
    codec: str = "dense32"
    link: LinkSettings = LinkSettings()
    clock: ClockMode = ClockMode.SIMULATED
    timing: TimingProfile = TimingProfile()
    joules: JouleProfile = JouleProfile()
    model: str = "bundled"
    llm: str | None = "bundled"
    layer: int | None = None
    threads: int = 0
    backend: str | None = None
    grid: tuple[Row, ...] = ()
    profile: str | None = None
    agreement: bool = False
    meter: str | None = None
    llm_dtype: str | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the run's table: the grid's, or one a policy with the run's own knobs."""
        return self.grid or tuple(Row.of(name, self.rules, self.decode.gamma) for name in self.policies)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self, dict_factory=_given), default=_plain))
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Return the settings that `to_dict` made plain; one that is not among them has its default.

        Raises:
            InvalidRequestError: for a setting that this version does not know, or a value that it does not take.
        """
        try:
            settings: Self = _built(cls, plain)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidRequestError(f"not the settings of a run: {error}; written by another version?") from error
        return settings

    def digest(self) -> str:
        """Return a short hash of everything that `--resume` must find unchanged."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _given(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    # A run without one of these keeps the digest it had before there were any.
    optional = ("learned", "outage", "trace", "meter", "llm_dtype", "run_on", "draft_p_min")
    return {
        name: value
        for name, value in fields
        if not (name in optional and value in (None, False)) and (name, value) != ("stream_interval", 1)
    }


def _plain(value: object) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is no setting")


def _built(kind: Any, value: Any) -> Any:
    """Return a plain value as the type that a settings class declares for it."""
    if isinstance(kind, types.UnionType):
        return None if value is None else _built(typing.get_args(kind)[0], value)
    if typing.get_origin(kind) is tuple:
        return tuple(_built(typing.get_args(kind)[0], entry) for entry in value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        if unknown := value.keys() - hints.keys():
            raise TypeError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
        return kind(**{name: _built(hints[name], entry) for name, entry in value.items()})
    return kind(value) if isinstance(kind, type) and issubclass(kind, enum.Enum) else value


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return what differs between two plain settings, as `dotted.name: before → now`."""
    names: list[str] = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            names.append(f"{prefix}{name}: {old} → {new}")
    return names
