"""Scores of rules whose curve is known."""

import dataclasses

import numpy as np
import pytest

from synthetic_trace import trace_of
from trace_packs import lawful_pack, pack_of, telling_pack, with_columns
from uihlm_device.rules.policies import PolicySettings
from uihlm_evaluation.calibration.trace import TraceError
from uihlm_evaluation.traces import rules
from uihlm_evaluation.traces.pack import Side
from uihlm_evaluation.traces.scores import RATES, score


def by_name(scores):
    return {entry.rule: entry for entry in scores.rules}


@pytest.fixture(scope="module")
def lawful():
    return lawful_pack(24, 40)


def test_chance_and_the_oracle_stand_beside_what_is_asked_for(lawful):
    found = by_name(score(lawful, ["entropy"]))
    assert found.keys() == {"entropy", "u", "random", "oracle"}
    assert found["random"].auc.mean == found["random"].auc.high == pytest.approx(0.5)
    assert (found["oracle"].way.mean, found["oracle"].way.low) == (1.0, 1.0)
    assert found["random"].way.mean == pytest.approx(0.0)
    assert [point.caught.mean for point in found["random"].rates] == pytest.approx(RATES)
    # Every token has one entropy: no better than chance.
    assert found["entropy"].auc.mean == pytest.approx(0.5)
    assert 0.5 < found["u"].auc.low <= found["u"].auc.mean <= found["u"].auc.high < found["oracle"].auc.mean
    assert found["u"].gain == found["u"].gain.__class__(0.0, 0.0, 0.0)


def test_rates_are_5_to_95_percent_in_steps_of_5():
    assert tuple(round(0.05 * i, 2) for i in range(1, 20)) == RATES and RATES[0] == 0.05 and RATES[-1] == 0.95


def test_best_area_comes_first(lawful):
    areas = [entry.auc.mean for entry in score(lawful, list(rules.BUILT_IN)[:5]).rules]
    assert areas == sorted(areas, reverse=True) and len(areas) == 7


def test_area_is_that_of_the_curve(monkeypatch):
    """A quarter of the tokens holds all rejection and the rule knows it: the area is 1 − 1/8; backwards, 1/8."""
    beta = np.tile([0.8, 0.0, 0.0, 0.0], 20)
    pack = pack_of(trace_of(beta, beta, np.repeat(np.arange(8), 10)), held_out=range(8))
    monkeypatch.setitem(rules.BUILT_IN, "worst", lambda seen: -seen.u)
    found = by_name(score(pack, ["worst"]))
    assert found["u"].auc.mean == found["oracle"].auc.mean == pytest.approx(7 / 8)
    assert found["worst"].auc.mean == pytest.approx(1 / 8)
    assert found["worst"].way.mean == pytest.approx(-1.0)
    assert found["worst"].gain.mean == pytest.approx(-3 / 4)
    assert found["u"].caught(0.2).mean == pytest.approx(0.8)


def test_rules_are_judged_on_the_side_that_is_named():
    pack = telling_pack()
    # On the train side the hidden state tells the contrary, so that is learnt.
    beta = pack.trace.reject_prob.copy()
    beta[~pack.held_out] = 1.0 - beta[~pack.held_out]
    wrong = by_name(score(with_columns(pack, reject_prob=beta), ["learned"]))["learned"]
    learnt = by_name(score(pack, ["learned"]))["learned"]
    assert learnt.way.low > 0.9 and wrong.way.high < -0.9
    for side, prompts in ((Side.HELD_OUT, 10), (Side.TRAIN, 10), (Side.ALL, 20)):
        scores = score(pack, ["u"], side)
        assert (scores.side, scores.prompts, scores.tokens) == (side.value, prompts, 40 * prompts)
        assert scores.mean_rejection.mean == pytest.approx(float(pack.side(side).reject_prob.mean()), abs=1e-6)


def test_a_policy_is_scored_at_its_own_rate(lawful):
    (u, slm, hlm) = score(
        lawful, ["policy:u", "policy:slm", "policy:hlm"], settings=PolicySettings(theta_u=0.7)
    ).policies
    trace = lawful.side(Side.HELD_OUT)
    up, beta = trace.u > 0.7, trace.reject_prob
    assert u.upload_rate.mean == pytest.approx(up.mean())
    assert u.caught.mean == pytest.approx(beta[up].sum() / beta.sum(), rel=1e-5)
    assert u.reject_rate.mean == pytest.approx(beta[up].mean(), rel=1e-5)
    best = np.sort(beta)[::-1]
    assert u.oracle == pytest.approx(best[: up.sum()].sum() / beta.sum(), rel=1e-5)
    assert (slm.upload_rate.mean, slm.caught, slm.reject_rate, slm.oracle) == (0.0, None, None, 0.0)
    assert (hlm.upload_rate.mean, hlm.caught.mean) == (1.0, 1.0)


def test_bootstrap_is_over_prompts_not_tokens(lawful):
    """The same tokens as prompts of their own are many more prompts: the interval shrinks, the mean stays."""
    trace = lawful.trace
    # Whole prompts are alike in nothing but their tokens, so make them alike: every token of a prompt has one β.
    beta = np.repeat(np.random.default_rng(2).uniform(size=24), 40)
    alike = pack_of(dataclasses.replace(trace, reject_prob=beta.astype(np.float32)), held_out=range(24))
    apart = pack_of(dataclasses.replace(alike.trace, prompt=np.arange(960, dtype=np.int32)), held_out=range(960))
    few, many = (score(pack, []).mean_rejection for pack in (alike, apart))
    assert few.mean == pytest.approx(many.mean) and few.half_width > 3 * many.half_width


def test_the_seed_draws_the_resamples(lawful):
    first, again, other = (by_name(score(lawful, [], seed=seed))["u"].auc for seed in (0, 0, 1))
    assert first == again and first.mean == other.mean and first.low != other.low


def test_where_nothing_could_be_rejected_there_is_nothing_to_score():
    pack = pack_of(trace_of(np.ones(8), np.zeros(8), np.repeat([0, 1], 4)))
    with pytest.raises(TraceError, match="could have been rejected: there is nothing to catch"):
        score(pack, ["u"])
