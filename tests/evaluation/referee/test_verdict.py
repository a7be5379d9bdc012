"""The referee: right loops pass, and each mutant that published code ships is called by its name."""

from __future__ import annotations

import numpy as np
import pytest

import mutants
from decode_loops import RIGHT, WRONG, ours, plain
from uihlm_evaluation.referee.defects import DEFECTS
from uihlm_evaluation.referee.stage import RefereeError
from uihlm_evaluation.referee.verdict import judge
from uihlm_proto.codecs import codec

BEST_ALONE = "the target's best token alone"
NAMES = {defect.name for defect in DEFECTS}
# What our mutants are called where that is not their own name.
CALLED = {
    "stop drafts accepted by force": "drafts of one token accepted by force",
    "y nearly one-hot": BEST_ALONE,
    "exact match with the LLM's best token": BEST_ALONE,
    "mass spread over what the support leaves out": "mass spread over what x leaves out",
    # Every y of the referee's models is plausible to that judge, so that everything stands.
    "plausible drafts stand": "drafts unverified",
}
# Enough for most. The others differ less from y, or from one another.
TOKENS = 3000
SUBTLE_TOKENS = 6000
SUBTLE = {
    "x known at d alone in the residual",
    "replacement drawn from y itself",
    "the draft's race noise reused for the residual",
    "one number for acceptance and residual",
    "noise shifted when the draft loses",
}


def tokens(name: str) -> int:
    """How many tokens a mutant is judged by."""
    return SUBTLE_TOKENS if name in SUBTLE else TOKENS


def grid(x):
    """What lattice:k=4,l=16 makes of a row."""
    uplink = codec("lattice:k=4,l=16", len(x))
    return uplink.draft(x, bytes(16), 0).x_hat


@pytest.mark.parametrize("draft_length", [1, 4])
@pytest.mark.parametrize("name", ["dense32", "lattice:k=4,l=16", "coupled"])
def test_right_loops_pass(name, draft_length, thorough):
    verdict = judge(ours(name, draft_length), 10_000 if thorough else 2000)
    assert verdict and verdict.fair and verdict.test.p_value > 1e-3
    assert verdict.suspects == () and verdict.defect is None


def test_a_right_loop_that_wastes_its_drafts_passes(monkeypatch):
    mutants.WASTEFUL["sample and match"][1].mutant(monkeypatch)
    assert judge(ours(), TOKENS)


@pytest.mark.parametrize("draft_length", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(mutants.RESIDUAL))
def test_mutants_of_the_residual_judge_are_named(name, draft_length, monkeypatch):
    mutants.RESIDUAL[name].mutant(monkeypatch)
    verdict = judge(ours("dense32", draft_length), tokens(name))
    assert not verdict and verdict.defect == CALLED.get(name, name)
    if draft_length == 1:
        assert verdict.suspects[0].fits


@pytest.mark.parametrize("name", list(mutants.LATTICE))
def test_mutants_are_named_on_what_a_codec_makes_of_x(name, monkeypatch):
    mutants.LATTICE[name].mutant(monkeypatch)
    verdict = judge(ours("lattice:k=4,l=16"), tokens(name), drafted=None if "after" in name else grid)
    assert not verdict and verdict.defect == CALLED.get(name, name)
    assert verdict.suspects[0].fits


@pytest.mark.parametrize("name", list(mutants.COUPLED))
def test_mutants_of_the_coupled_judge_are_named(name, monkeypatch):
    mutants.COUPLED[name].mutant(monkeypatch)
    verdict = judge(ours("coupled"), tokens(name))
    assert not verdict and verdict.defect == CALLED.get(name, name)


@pytest.mark.parametrize("name", WRONG)
def test_defects_of_a_plain_loop_are_named(name):
    verdict = judge(WRONG[name], TOKENS * 2)
    assert not verdict and verdict.defect == name
    assert judge(RIGHT, TOKENS)


def test_a_row_too_late_in_a_session_is_named(monkeypatch):
    mutants.stale_row(monkeypatch)
    assert judge(ours(), TOKENS).defect == "y of one position before"


def test_every_known_defect_is_shown_by_a_loop():
    shown = {CALLED.get(name, name) for name in (*mutants.RESIDUAL, *mutants.LATTICE, *mutants.COUPLED)} | WRONG.keys()
    assert NAMES - shown == {"plausible drafts stand"}
    assert len(NAMES) == len(DEFECTS)


def test_a_bar_on_y_is_named():
    def step(x, y, ids, small, large, generator):
        d = int(generator.choice(12, p=x))
        return d if y[d] > 0.06 else int(generator.choice(12, p=y))

    assert judge(plain(step), TOKENS).defect == "plausible drafts stand"


def test_an_unknown_defect_is_told_from_the_known_ones():
    """Token 5 is never written: no law of ours, so the likeliest does not fit, and the verdict says so."""

    def step(x, y, ids, small, large, generator):
        y = np.where(np.arange(12) == 5, 0.0, y)
        return int(generator.choice(12, p=y / y.sum()))

    verdict = judge(plain(step), 8000)
    assert not verdict and not verdict.suspects[0].fits
    assert "its law does not fit either" in str(verdict)


def test_verdict_is_said_with_its_power_and_false_alarm_rate(monkeypatch):
    lines = str(judge(ours(), TOKENS)).splitlines()
    assert lines[0].startswith("y-distributed: chi-square ") and lines[0].endswith(", 3,000 tokens")
    assert lines[1:] == [
        "(false alarms 1e-06; 13.6 % of unverified drafts in the output would be caught with probability 0.999)"
    ]
    mutants.RESIDUAL["acceptance ratio inverted"].mutant(monkeypatch)
    lines = str(judge(ours(), TOKENS)).splitlines()
    assert lines[0].startswith("NOT y-distributed: ")
    assert lines[2].startswith("looks like: acceptance ratio inverted (") and "nats likelier" in lines[2]
    assert lines[3] == "  accept with min(1, y_d/x_d), not x_d/y_d"


def test_defects_of_one_law_are_both_named(monkeypatch):
    """max(., 0) left out writes (x + y)/2: exactly what a loop does that leaves every second draft unverified."""
    mutants.RESIDUAL["residual without max(., 0)"].mutant(monkeypatch)
    assert "\nor like: drafts unverified (" in str(judge(ours(), TOKENS))


def test_same_seed_same_verdict():
    first, again, other = (judge(RIGHT, 1000, seed).test for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("decode", "sentence"),
    [
        (lambda x, y, prompt, max_tokens, seed: [0] * (max_tokens + 1), "asked for 100 tokens and returned 101"),
        (lambda x, y, prompt, max_tokens, seed: [12] * max_tokens, "returned id 12: ids are 0 … 11"),
        (lambda x, y, prompt, max_tokens, seed: [-1] * max_tokens, "returned id -1"),
        (lambda x, y, prompt, max_tokens, seed: "a" * max_tokens, "must return a sequence of ids"),
        (lambda x, y, prompt, max_tokens, seed: [0.5] * max_tokens, "must return a sequence of ids"),
        (lambda x, y, prompt, max_tokens, seed: None, "must return a sequence of ids"),
        (lambda x, y, prompt, max_tokens, seed: x([]), "asked what follows"),
        (lambda x, y, prompt, max_tokens, seed: y([3, 12]), "asked what follows .12."),
    ],
)
def test_a_loop_that_breaks_the_contract_is_told_how(decode, sentence):
    with pytest.raises(RefereeError, match=sentence):
        judge(decode, 500)


def test_no_tokens_are_no_test():
    with pytest.raises(RefereeError, match="at least one token, got 0"):
        judge(RIGHT, 0)


def test_models_change_with_every_last_token_and_are_copies():
    rows = []

    def decode(x, y, prompt, max_tokens, seed):
        assert len(prompt) >= 2
        for model in (x, y):
            rows.append(np.stack([model([0, last]) for last in range(12)]))
            model([0])[:] = 0.0
            assert model([0]).sum() == pytest.approx(1.0)
        return [0] * max_tokens

    judge(decode, 1)
    for table in rows:
        assert len({tuple(row) for row in table}) == 12 and table.min() > 0.015
    assert np.abs(rows[0] - rows[1]).sum(axis=1) / 2 == pytest.approx([0.4615] * 12)
