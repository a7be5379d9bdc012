"""Sums by prompt are of the right row and prompt, and their intervals cover."""

import numpy as np
import pytest

from saved_run import records, write_run
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.report.measures import interval, measure, ratio_interval
from uihlm_evaluation.results.scores import read_scores
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import Stop


def measured(path):
    return measure(RunFolder.read(path), read_scores(path / "scores.jsonl"))


def test_caught_sums_the_probabilities_of_what_was_uploaded(tmp_path):
    study = measured(write_run(tmp_path))
    assert study.expected
    assert study.prompts == (0, 1, 2)
    for row in study.rows:
        assert row.caught.tolist() == [1.0, 1.0, 1.0], "two drafts of 0.5 each, in every prompt"
        assert row.uploaded.tolist() == [2.0, 2.0, 2.0]
        assert row.quality.tolist() == pytest.approx([0.70, 0.71, 0.72])


def test_rejections_are_counted_where_no_verdict_tells_a_probability(tmp_path):
    study = measured(write_run(tmp_path, tokens=lambda: records(reject_prob=None)))
    assert not study.expected
    assert all(row.caught.tolist() == [1.0, 1.0, 1.0] for row in study.rows), "one replaced token an answer"


def test_only_prompts_that_every_row_answered_count(tmp_path):
    run = write_run(tmp_path, prompts=4)
    path = run / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    # The second row of prompt 0.
    lines[1] = lines[1].replace(f'"stop":"{Stop.LENGTH}"', f'"stop":"{Stop.ERROR}"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    study = measured(run)
    assert study.prompts == (1, 2, 3)
    assert all(len(row.caught) == 3 for row in study.rows)


def test_row_without_an_answer_is_left_out_and_named(tmp_path):
    run = write_run(tmp_path, [Row.of("slm"), Row.of("u")])
    path = run / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    failed = [x.replace('"stop":"length"', '"stop":"error"') if '"policy":"u"' in x else x for x in lines]
    path.write_text("\n".join(failed) + "\n", encoding="utf-8")
    study = measured(run)
    assert ([row.label for row in study.rows], study.left_out, study.prompts) == (["slm"], ("u",), (0, 1, 2))


def test_knobs_that_would_match_a_row(tmp_path):
    [row] = measured(write_run(tmp_path, [Row.of("ui")])).rows
    # 1 - x_d = 0.2, 0.3, … 0.6, of which 40 % were uploaded; u = 0 … 0.4, all under θ_u.
    assert 0.4 < row.theta_c < 0.5
    assert row.thinning is None


def test_interval_of_a_ratio_covers_the_truth():
    hits = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        whole = generator.integers(20, 100, 60).astype(float)
        part = generator.binomial(whole.astype(int), 0.4).astype(float)
        found = ratio_interval(part, whole)
        hits += found.low <= 0.4 <= found.high
    assert 0.88 < hits / 200 < 0.99


def test_rows_are_resampled_together():
    common = np.random.default_rng(0).normal(5.0, 3.0, 50)
    found = interval(lambda t: (t[0] - t[1]) / 50, np.stack([common + 1.0, common]))
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))


def test_ratio_to_nothing_does_not_exist():
    assert ratio_interval(np.ones(5), np.zeros(5)) is None
    assert ratio_interval(np.ones(0), np.ones(0)) is None


def test_a_rate_of_few_keeps_its_value_though_some_draws_have_none_of_it():
    """Uploads in 5 of 100 prompts: a draw in 150 has none, and says nothing of how many were rejected."""
    uploads, rejects = np.zeros(100), np.zeros(100)
    uploads[:5], rejects[:5] = 4.0, (1.0, 2.0, 2.0, 3.0, 2.0)
    found = ratio_interval(rejects, uploads)
    assert found is not None and found.mean == pytest.approx(0.5)
    assert 0.25 <= found.low < 0.5 < found.high <= 0.75
