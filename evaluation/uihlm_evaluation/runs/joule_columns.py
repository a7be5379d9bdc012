"""The joules of a table: measured beside modelled, of the same ends; no column where no meter read anything."""

from __future__ import annotations

from collections.abc import Sequence

from uihlm_evaluation.runs.results import PolicyResult

# What was measured, what stands beside it as modelled, and of which end; the most telling first.
_ENDS = (
    ("measured_j", "energy_j", "both ends"),
    ("measured_device_j", "device_j", "device"),
    ("measured_basestation_j", "basestation_j", "base station"),
)
_FIELDS = ("measured_j", "measured_device_j", "measured_basestation_j", "measured_machine_j")
_HEADINGS = ("measured J", "measured J, device", "measured J, base station", "measured J, one machine")


def measured_columns(results: Sequence[PolicyResult]) -> list[tuple[str, str]]:
    """Return heading and field of every measured value that some row has; for one machine its sum would say it twice."""
    known = [(heading, field) for heading, field in zip(_HEADINGS, _FIELDS, strict=True) if _any(results, field)]
    return known[1:] if _any(results, "measured_machine_j") else known


def side_by_side(results: Sequence[PolicyResult]) -> tuple[str, str, str] | None:
    """Return the fields of measured and modelled joules and whose they are, for a table with room for one pair."""
    return next((end for end in _ENDS if _any(results, end[0])), None)


def _any(results: Sequence[PolicyResult], field: str) -> bool:
    return any(getattr(result, field) is not None for result in results)
