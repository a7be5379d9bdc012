"""The joules of a table: measured beside modelled, of the same ends; no column where no meter read anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uihlm_evaluation.results.policy_result import PolicyResult


@dataclass(frozen=True, slots=True)
class Pair:
    """The fields of measured and modelled joules of the same ends, and which these are."""

    measured: str
    modelled: str
    whose: str


# The most telling first.
_PAIRS = (
    Pair("measured_j", "energy_j", "both ends"),
    Pair("measured_device_j", "device_j", "device"),
    Pair("measured_basestation_j", "basestation_j", "base station"),
)
_FIELDS = ("measured_j", "measured_device_j", "measured_basestation_j", "measured_machine_j")
_HEADINGS = ("measured J", "measured J, device", "measured J, base station", "measured J, one machine")


def measured_columns(results: Sequence[PolicyResult]) -> list[tuple[str, str]]:
    """Return heading and field of every measured value that some row has; for one machine its sum would say it twice."""
    known = [(heading, field) for heading, field in zip(_HEADINGS, _FIELDS, strict=True) if _any(results, field)]
    return known[1:] if _any(results, "measured_machine_j") else known


def side_by_side(results: Sequence[PolicyResult]) -> Pair | None:
    """Return what to show where there is room for one pair; None where no meter read anything."""
    return next((pair for pair in _PAIRS if _any(results, pair.measured)), None)


def _any(results: Sequence[PolicyResult], field: str) -> bool:
    return any(getattr(result, field) is not None for result in results)
