"""The predictor on traces of known make: it wins where the hidden state tells more than u, and nowhere else."""

import json

import numpy as np
import pytest

from synthetic_trace import trace_of
from uihlm_evaluation.calibration import learned
from uihlm_evaluation.calibration.learned import Verdict, compare, folds, train
from uihlm_evaluation.calibration.trace import TraceError
from uihlm_evaluation.quality.bootstrap import Interval

RATE = 0.4


def synthetic(signal, prompts=20, tokens=50, width=12, seed=0):
    """β = 0.15 + 0.5·u + signal·sign(h_3) ± 0.1, h standard normal."""
    generator = np.random.default_rng(seed)
    n = prompts * tokens
    u, hidden = generator.uniform(0, 1, n), generator.normal(size=(n, width))
    beta = 0.15 + 0.5 * u + signal * np.sign(hidden[:, 3]) + generator.uniform(-0.1, 0.1, n)
    return trace_of(u, np.clip(beta, 0, 1), np.repeat(np.arange(prompts), tokens), hidden=hidden)


def prompts_with_levels(prompts=12, tokens=60, width=16):
    """Tokens whose rejection is their prompt's own and whose hidden state tells which prompt that is."""
    generator = np.random.default_rng(5)
    name, level = generator.normal(size=(prompts, width)), generator.uniform(0.1, 0.9, prompts)
    prompt = np.repeat(np.arange(prompts), tokens)
    noise = generator.normal(size=(len(prompt), width)) * 0.1
    u = generator.uniform(0, 1, len(prompt))
    return trace_of(u, level[prompt], prompt, hidden=name[prompt] + noise)


def test_signal_beyond_u_wins_and_is_kept():
    comparison = compare(synthetic(0.15), RATE)
    assert comparison.verdict is Verdict.BETTER and comparison.kept
    assert comparison.learned.wanted.gain.low > 0.02
    assert "better" in comparison.sentence() and "; kept" in comparison.sentence()


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_in_the_hidden_state_is_refused(seed):
    comparison = compare(synthetic(0.0, seed=seed), RATE)
    assert not comparison.kept
    assert abs(comparison.learned.wanted.gain.mean) < 0.03
    assert "not kept" in comparison.sentence()


def test_a_prompt_is_wholly_in_one_fold_and_every_fold_has_prompts():
    prompt = np.repeat(np.arange(23, dtype=np.int32) * 7, 5)
    dealt = folds(prompt, seed=3)
    assert all(len(set(dealt[prompt == one])) == 1 for one in set(prompt))
    assert set(dealt) == set(range(10))


def test_remembering_prompts_earns_nothing(monkeypatch):
    """The same trace split by token would be a great success: what the split keeps out is real."""
    trace = prompts_with_levels()
    assert compare(trace, RATE).verdict is not Verdict.BETTER
    by_token = np.random.default_rng(0).integers(0, 10, len(trace))
    monkeypatch.setattr(learned, "folds", lambda prompt, seed: by_token)
    assert compare(trace, RATE).learned.wanted.gain.low > 0.1


def test_rules_that_need_no_training_stand_beside_it():
    comparison = compare(synthetic(0.15), RATE)
    at = {rule.rule: rule.wanted.caught.mean for rule in comparison.rules}
    assert list(at) == ["learned", "u", "confidence", "entropy", "random", "oracle"]
    # x_d and entropy are the same for all tokens here.
    assert at["random"] == at["confidence"] == at["entropy"] == pytest.approx(RATE)
    assert at["random"] < at["u"] < at["learned"] < at["oracle"]
    assert [point.rate for point in comparison.learned.rates] == pytest.approx(np.arange(0.05, 0.96, 0.05))
    assert all(point.gain == Interval(0, 0, 0) for point in comparison.rules[1].rates)


def test_the_learning_curve_trains_on_fewer_prompts():
    learning = compare(synthetic(0.15), RATE).learning
    # 18 of 20 prompts are trained on, 50 tokens each; a quarter of 18 is 4 prompts.
    assert [(point.share, point.tokens) for point in learning] == [(0.25, 200.0), (0.5, 450.0), (1.0, 900.0)]
    assert learning[0].gain.mean < learning[-1].gain.mean


def test_the_trained_weights_find_the_unit_that_tells_and_upload_at_the_rate():
    trace = synthetic(0.15)
    predictor = train(trace, RATE)
    assert np.argmax(np.abs(predictor.hidden)) == 3
    scores = predictor.reject_prob(trace.hidden, trace.u, trace.x_d)
    assert (scores > predictor.threshold).mean() == pytest.approx(RATE, abs=0.01)
    assert np.abs(scores.mean() - trace.reject_prob.mean()) < 0.01
    assert (predictor.origin.slm_sha256, predictor.origin.temperature) == ("5" * 64, 0.6)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.02, 0.01, 0.03), Verdict.BETTER),
        (Interval(0.02, 0.0, 0.03), Verdict.NO_DIFFERENCE),
        (Interval(-0.01, -0.03, 0.01), Verdict.NO_DIFFERENCE),
        (Interval(-0.02, -0.03, -0.01), Verdict.WORSE),
    ],
)
def test_the_verdict_is_whether_the_interval_leaves_out_zero(interval, verdict):
    assert Verdict.of(interval) is verdict


def test_what_cannot_be_learnt_from_is_refused():
    with pytest.raises(TraceError, match="no hidden states"):
        compare(trace_of([0.1, 0.9], [0.1, 0.9], [0, 1]), RATE)
    one = trace_of([0.1, 0.9], [0.1, 0.9], [0, 0], hidden=np.eye(2))
    with pytest.raises(TraceError, match="one prompt"):
        compare(one, RATE)
    never = trace_of([0.1, 0.9], [0.0, 0.0], [0, 1], hidden=np.eye(2))
    with pytest.raises(TraceError, match="nothing to foresee"):
        compare(never, RATE)


def test_the_file_says_what_was_decided(tmp_path):
    comparison = compare(synthetic(0.15), RATE)
    comparison.save(tmp_path)
    document = json.loads((tmp_path / "learned.json").read_text())
    assert document["kept"] is True and document["verdict"] == "better"
    assert document["rules"][0]["wanted"]["rate"] == RATE
