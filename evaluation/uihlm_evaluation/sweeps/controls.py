"""Controls: rules that know less, set to upload as often as the rule they are held against.

    random      uploads by a coin of u's upload rate
    confidence  1 − x_d > θ_c, with θ_c the quantile of 1 − x_d over u's tokens that leaves u's upload rate
    u-random    u > θ_u thinned by a coin: of u's candidates as many as ui uploads, without looking at attention

The knobs come from the tokens of the rows they match, so the controls run after them; on their own answers they may upload a
little more or less, and the table says how often they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from uihlm_evaluation.report.rounds import Rounds
from uihlm_evaluation.runs.rows import Row

CONTROLS = ("random", "confidence", "u-random")


def matched_controls(rows: Sequence[Row], rounds: Rounds) -> tuple[Row, ...]:
    """Return the control rows that the rows and their tokens allow.

    Args:
        rows: of the sweep; a control that stands among them is not added again. `u` is matched by its first row, `ui` by
            the one nearest to k = 3, γ = 1.
        rounds: every token of these rows.
    """
    present = {row.policy for row in rows}
    u = next((row for row in rows if row.policy == "u"), None)
    ui = min(
        (row for row in rows if row.policy == "ui"),
        key=lambda row: (abs(row.rules.k - 3), abs(row.gamma - 1.0)),
        default=None,
    )
    found: list[Row] = []
    if u is not None:
        tokens = _tokens(rounds, u)
        uploads = rounds.column("uploaded")[tokens]
        doubt = 1.0 - rounds.column("x_d")[tokens]
        if uploads.size:
            rate = float(uploads.mean())
            theta_c = float(np.quantile(doubt, 1.0 - rate))
            found.append(Row.of("random", replace(u.rules, rate=rate), u.gamma))
            found.append(Row.of("confidence", replace(u.rules, theta_c=theta_c), u.gamma))
    if ui is not None:
        tokens = _tokens(rounds, ui)
        candidates = rounds.column("u")[tokens] > ui.rules.theta_u
        if candidates.any():
            rate = float(rounds.column("uploaded")[tokens].sum() / candidates.sum())
            found.append(Row.of("u-random", replace(ui.rules, rate=rate), ui.gamma))
    return tuple(row for row in found if row.policy not in present)


def awaited_controls(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the controls that these rows will have, with knobs that are not matched yet: enough to time what they compute."""
    present = {row.policy for row in rows}
    matched = {"random": "u", "confidence": "u", "u-random": "ui"}
    return tuple(
        Row.of(control, next(row.rules for row in rows if row.policy == held))
        for control, held in matched.items()
        if held in present and control not in present
    )


def _tokens(rounds: Rounds, row: Row) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places of a row's lines, `[n]`."""
    return (
        np.flatnonzero(rounds.row == rounds.labels.index(row.label))
        if row.label in rounds.labels
        else np.array([], np.intp)
    )
