"""Controls upload as often as the rule they are held against, by knobs found from that rule's own tokens."""

import numpy as np
import pytest

from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.report.rounds import Rounds
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.sweeps.controls import awaited_controls, matched_controls

RULES = PolicySettings(theta_u=0.5)
U, UI = Row.of("u", RULES), Row("ui k=3", "ui", RULES, 1.0)


def rounds(**by_label):
    """Rounds of rows given as lists of (x_d, u, uploaded)."""
    labels = tuple(by_label)
    lines = [(code, *line) for code, label in enumerate(labels) for line in by_label[label]]
    columns = np.array(lines, np.float64).reshape(-1, 4).T
    n = len(lines)
    whole = np.zeros(n, np.int64)
    return Rounds(
        labels, columns[0].astype(np.int32), ("local",), np.zeros(n, np.int32), whole, whole.astype(np.int32),
        whole.astype(np.int32), {"x_d": columns[1], "u": columns[2], "uploaded": columns[3]},
    )  # fmt: skip


def many(n=4000, upload=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return [(x, rng.random(), float(rng.random() < upload)) for x in rng.random(n)]


def test_random_gets_the_upload_rate_of_u():
    lines = many()
    random = matched_controls([U], rounds(u=lines))[0]
    assert random.policy == random.label == "random"
    assert random.rules.rate == pytest.approx(np.mean([line[2] for line in lines]))


def test_confidence_gets_the_threshold_that_uploads_as_many_of_the_same_tokens():
    lines = many()
    confidence = matched_controls([U], rounds(u=lines))[1]
    above = np.mean([1.0 - x > confidence.rules.theta_c for x, _, _ in lines])
    assert above == pytest.approx(np.mean([line[2] for line in lines]), abs=1e-3)


def test_u_random_thins_the_candidates_of_ui_to_its_uploads():
    lines = [(0.5, 0.9, 1.0)] * 30 + [(0.5, 0.9, 0.0)] * 90 + [(0.5, 0.1, 0.0)] * 80
    (thinned,) = matched_controls([UI], rounds(**{"ui k=3": lines}))
    assert (thinned.policy, thinned.rules.rate, thinned.rules.theta_u) == ("u-random", 0.25, 0.5)


def test_ui_nearest_to_the_papers_defaults_is_matched():
    far = Row("ui far", "ui", PolicySettings(theta_u=0.5, k=5), 1.0)
    near = Row("ui near", "ui", PolicySettings(theta_u=0.5, k=3), 1.0)
    steep = Row("ui steep", "ui", PolicySettings(theta_u=0.5, k=3), 1.5)
    lines = {"ui far": [(0.5, 0.9, 0.0)], "ui near": [(0.5, 0.9, 1.0)], "ui steep": [(0.5, 0.9, 0.0)]}
    (thinned,) = matched_controls([far, steep, near], rounds(**lines))
    assert thinned.rules.rate == 1.0


def test_no_row_no_control_and_one_that_is_there_is_not_added():
    assert matched_controls([Row.of("hlm")], rounds(hlm=many(5))) == ()
    added = matched_controls([U, Row.of("random", RULES)], rounds(u=many(50), random=many(50)))
    assert [row.policy for row in added] == ["confidence"]
    assert matched_controls([UI], rounds(**{"ui k=3": [(0.5, 0.1, 0.0)]})) == (), "no candidate to thin"


@pytest.mark.parametrize(
    ("grid", "awaited"),
    [
        (("slm", "hlm"), []),
        (("u",), ["random", "confidence"]),
        (("ui",), ["u-random"]),
        (("u", "ui", "random"), ["confidence", "u-random"]),
    ],
)
def test_controls_to_come_are_known_before_their_knobs(grid, awaited):
    assert [row.policy for row in awaited_controls([Row.of(name) for name in grid])] == awaited


def test_the_row_nearest_to_k_3_is_matched_from_both_sides():
    rows = [Row(f"ui k={k}", "ui", PolicySettings(theta_u=0.5, k=k), 1.0) for k in (1, 4, 5)]
    found = matched_controls(rows, rounds(**{row.label: many(upload=0.1 * row.rules.k) for row in rows}))
    [thinned] = [row for row in found if row.policy == "u-random"]
    assert thinned.rules.rate == pytest.approx(2 * 0.4, abs=0.05)
