"""What a lattice codec is set to, and its name on the wire.

    lattice                    K = 16, ℓ = 128
    lattice:k=64,l=1024        fixed K and ℓ
    lattice:tv=0.05            the cheapest grid of the ladder with TV(x, x̂) ≤ 0.05
    lattice:tv=0.05,alpha=0.1  a share of at most 0.1 of the drafts may exceed it

K is 1 … 128 and ℓ 1 … 4096, so that no name and no payload costs the other end more than some milliseconds; τ and α lie
between 0 and 1. The canonical name holds every parameter, in this order, so that a run means the same when a default
changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from uihlm_proto.errors import InvalidRequestError

MAX_K = 128
MAX_STEPS = 4096

_WHOLE = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_SHARE = re.compile(r"0?\.[0-9]{1,6}", re.ASCII)
_ALLOWED = (
    f"`lattice` takes k=1…{MAX_K} and l=1…{MAX_STEPS} (lattice:k=16,l=128), or tv and if need be alpha, both between 0 and 1 "
    "with at most 6 decimals (lattice:tv=0.05,alpha=0.1)"
)


@dataclass(frozen=True, slots=True)
class FixedLattice:
    """Every draft on one grid."""

    k: int = 16
    steps: int = 128

    def __post_init__(self) -> None:
        if not (1 <= self.k <= MAX_K and 1 <= self.steps <= MAX_STEPS):
            raise InvalidRequestError(f"K = {self.k}, ℓ = {self.steps} is no lattice codec: {_ALLOWED}")

    @property
    def name(self) -> str:
        """The canonical name."""
        return f"lattice:k={self.k},l={self.steps}"


@dataclass(frozen=True, slots=True)
class AdaptiveLattice:
    """Each draft on the cheapest grid that keeps TV(x, x̂) within τ = `tv`, but for a share `alpha` of them."""

    tv: float
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.tv < 1.0 and 0.0 <= self.alpha < 1.0):
            raise InvalidRequestError(f"tv = {self.tv}, alpha = {self.alpha} is no lattice codec: {_ALLOWED}")

    @property
    def name(self) -> str:
        """The canonical name."""
        return f"lattice:tv={_decimal(self.tv)}" + (f",alpha={_decimal(self.alpha)}" if self.alpha else "")


LatticeSettings = FixedLattice | AdaptiveLattice


def lattice_settings(parameters: str) -> LatticeSettings:
    """Return the settings that the part of a name after `lattice:` says; InvalidRequestError says what is allowed."""
    given: dict[str, str] = {}
    for part in parameters.split(",") if parameters else ():
        name, _, value = part.partition("=")
        pattern = {"k": _WHOLE, "l": _WHOLE, "tv": _SHARE, "alpha": _SHARE}.get(name)
        if pattern is None or name in given or not pattern.fullmatch(value):
            raise InvalidRequestError(f"{part!r} in the codec name is not understood: {_ALLOWED}")
        given[name] = value
    if given.keys() <= {"k", "l"}:
        return FixedLattice(int(given.get("k", FixedLattice().k)), int(given.get("l", FixedLattice().steps)))
    if given.keys() <= {"tv", "alpha"} and "tv" in given:
        return AdaptiveLattice(float(given["tv"]), float(given.get("alpha", 0.0)))
    raise InvalidRequestError(f"{parameters!r} in the codec name is no set of parameters: {_ALLOWED}")


def _decimal(value: float) -> str:
    return f"{value:.6f}".rstrip("0")
