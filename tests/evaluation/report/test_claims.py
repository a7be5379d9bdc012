"""What is said of a run is true of it: worlds in which the truth is known, in both directions."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from uihlm_evaluation.report.claims import claims
from uihlm_evaluation.report.comparisons import Measure, Outcome
from uihlm_evaluation.report.measures import RowMeasures, Study

PROMPTS = 60
TOKENS = 80.0


def noise(seed, scale=0.02):
    return np.random.default_rng(seed).normal(0.0, scale, PROMPTS)


def row(policy, upload=0.4, caught=0.6, quality=0.7, label=None, theta_u=0.58, forwards=None, seconds=1.0, **changes):
    """Return a row that catches `caught` of hlm's 30 rejections in 100 tokens and scores `quality` on the average."""
    seed = sum(map(ord, label or policy))
    ones = np.ones(PROMPTS)
    result = SimpleNamespace(row=label or policy, policy=policy, theta_u=theta_u)
    values = {
        "result": result, "tokens": TOKENS * ones, "uploaded": upload * TOKENS * ones,
        "rejected": 0.5 * upload * TOKENS * ones, "caught": 0.3 * TOKENS * (caught + noise(seed)),
        "llm_forwards": TOKENS * (upload if forwards is None else forwards) * ones, "llm_positions": TOKENS * ones,
        "model_bits": 1000.0 * upload * TOKENS * ones, "payload_bits": 1000.0 * ones,
        "latency_s": TOKENS * (seconds + noise(seed + 1)), "quality": quality + noise(99, 0.1) + noise(seed + 2),
    }  # fmt: skip
    return RowMeasures(**{**values, **changes})


HLM = row("hlm", 1.0, 1.0, 0.72)


def study(*rows, expected=True):
    return Study(tuple(range(PROMPTS)), tuple(rows), expected)


def answer(of, question, measure):
    return next(c for c in claims(of) if question in c.question and c.measure is measure)


@pytest.mark.parametrize(
    ("caught", "outcome", "words"),
    [
        (0.75, Outcome.BETTER, "u is better than random in share of rejections caught: 7"),
        (0.45, Outcome.WORSE, "u is worse than random"),
        (0.60, Outcome.NOT_SHOWN, "No difference shown between u and random"),
    ],
)
def test_u_against_random_in_rejections_caught(caught, outcome, words):
    claim = answer(study(HLM, row("u", caught=caught), row("random")), "u beat random", Measure.CAUGHT)
    assert claim.outcome is outcome
    assert claim.sentence.startswith(words)
    [part] = claim.parts
    assert part.difference.low - 0.005 <= caught - 0.6 <= part.difference.high + 0.005
    assert f"over {PROMPTS} prompts" in claim.sentence
    assert "40.0 % and 40.0 %" in claim.sentence


@pytest.mark.parametrize(
    ("quality", "outcome"), [(0.73, Outcome.BETTER), (0.67, Outcome.WORSE), (0.70, Outcome.NOT_SHOWN)]
)
def test_u_against_confidence_in_quality(quality, outcome):
    claim = answer(study(HLM, row("u", quality=quality), row("confidence")), "beat confidence", Measure.QUALITY)
    assert claim.outcome is outcome
    assert outcome is Outcome.NOT_SHOWN or outcome.value in claim.sentence


def test_pairing_takes_out_what_prompts_differ_in():
    # Between prompts quality varies by 0.1: two separate intervals of ±0.025 would hide a difference of 0.02.
    [part] = answer(study(HLM, row("u", quality=0.72), row("random")), "beat random", Measure.QUALITY).parts
    assert part.difference.high - part.difference.low < 0.02


def test_share_is_of_what_hlm_rejects_per_token():
    longer = row("u", caught=0.5)
    # Twice the tokens, twice the rejections: the same share.
    longer = dataclasses.replace(
        longer, tokens=2 * longer.tokens, caught=2 * longer.caught, uploaded=2 * longer.uploaded
    )
    [part] = answer(study(HLM, longer, row("random", caught=0.4)), "beat random", Measure.CAUGHT).parts
    assert part.first_value == pytest.approx(0.5, abs=0.01)
    assert part.second_value == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(("caught", "outcome"), [(0.7, Outcome.BETTER), (0.5, Outcome.WORSE), (0.6, Outcome.NOT_SHOWN)])
def test_ui_against_u_thinned_at_random(caught, outcome):
    of = study(HLM, row("ui", caught=caught), row("u-random", 0.42))
    assert answer(of, "ui beat u-random", Measure.CAUGHT).outcome is outcome


def test_pairs_that_disagree_are_counted_not_averaged():
    rows = [row("ui", 0.4, 0.7, label="ui k=3"), row("ui", 0.2, 0.3, label="ui k=9")]
    rivals = [row("u-random", 0.41, 0.6, label="u-random a"), row("u-random", 0.2, 0.4, label="u-random b")]
    claim = answer(study(HLM, *rows, *rivals), "ui beat", Measure.CAUGHT)
    assert claim.outcome is Outcome.MIXED
    assert [(part.first, part.second) for part in claim.parts] == [("ui k=3", "u-random a"), ("ui k=9", "u-random b")]
    assert "2 pairs" in claim.sentence
    assert "better in 1, worse in 1" in claim.sentence


def test_rival_of_another_threshold_is_no_control():
    claim = answer(study(HLM, row("ui"), row("u-random", theta_u=0.3)), "ui beat", Measure.CAUGHT)
    assert claim.outcome is Outcome.NOT_ANSWERED


def test_row_that_uploads_more_is_no_control():
    claim = answer(study(HLM, row("u", 0.4), row("random", 0.5)), "beat random", Measure.CAUGHT)
    assert claim.outcome is Outcome.NOT_ANSWERED
    assert "uploads 50.0 %" in claim.sentence
    assert "add --policy random --rate 0.4" in claim.sentence


@pytest.mark.parametrize(
    ("rows", "question", "words"),
    [
        ([row("hlm")], "u beat random", "add --policy u and random"),
        ([HLM, row("u", 0.4)], "u beat random", "--policy random --rate 0.4"),
        ([HLM, row("u", theta_c=0.384)], "u beat confidence", "--policy confidence --theta-c 0.384"),
        ([HLM, row("ui", 0.2, thinning=0.6)], "ui beat u-random", "--policy u-random --rate 0.6"),
        ([row("u"), row("random")], "u beat random", "add --policy hlm"),
        ([HLM], "LLM alone", "add --policy llm"),
    ],
)
def test_missing_row_is_named_with_the_flags_that_add_it(rows, question, words):
    measure = Measure.QUALITY if "LLM" in question else Measure.CAUGHT
    claim = answer(study(*rows), question, measure)
    assert claim.outcome is Outcome.NOT_ANSWERED
    assert words in claim.sentence


def test_no_scores_is_said_not_guessed():
    blank = np.full(PROMPTS, np.nan)
    of = study(HLM, row("u", quality=0.9), row("random", **{}), row("confidence"))
    of = dataclasses.replace(of, rows=tuple(dataclasses.replace(r, quality=blank) for r in of.rows))
    claim = answer(of, "beat random", Measure.QUALITY)
    assert claim.outcome is Outcome.NOT_ANSWERED
    assert "scores.jsonl" in claim.sentence


def test_few_prompts_give_no_verdict():
    def cut(one):
        arrays = {f.name: getattr(one, f.name)[:4] for f in dataclasses.fields(one) if f.name not in SCALARS}
        return dataclasses.replace(one, **arrays)

    of = Study(tuple(range(4)), tuple(cut(r) for r in (HLM, row("u", caught=0.99), row("random"))), True)
    claim = answer(of, "beat random", Measure.CAUGHT)
    assert claim.outcome is Outcome.NOT_ANSWERED
    assert "4 prompts" in claim.sentence


SCALARS = ("result", "theta_c", "thinning")


def test_nothing_rejected_is_nothing_to_share():
    of = study(dataclasses.replace(HLM, caught=0.0 * HLM.caught), row("u"), row("random"))
    assert "no rejections under hlm" in answer(of, "beat random", Measure.CAUGHT).sentence


def test_llm_alone_beats_all_in_quality_and_bits():
    alone = row("llm", 0.0, quality=0.8, forwards=1.0, seconds=0.1)
    of = study(alone, HLM, row("u", quality=0.7))
    quality = answer(of, "LLM alone", Measure.QUALITY)
    assert quality.outcome is Outcome.BETTER
    assert "better than every other row (2); the nearest is hlm" in quality.sentence
    assert answer(of, "LLM alone", Measure.BITS).outcome is Outcome.BETTER
    assert answer(of, "LLM alone", Measure.SECONDS).outcome is Outcome.BETTER


def test_llm_alone_needs_more_forwards_than_rows_that_skip():
    alone = row("llm", 0.0, quality=0.6, forwards=1.0)
    of = study(alone, row("u"), row("ui", 0.2))
    forwards = answer(of, "LLM alone", Measure.FORWARDS)
    assert forwards.outcome is Outcome.WORSE
    assert "worse than u (+0.600 [+0.600, +0.600]), ui" in forwards.sentence
    assert answer(of, "LLM alone", Measure.QUALITY).outcome is Outcome.WORSE


def test_llm_alone_against_rows_on_both_sides():
    alone = row("llm", 0.0, forwards=1.0)
    claim = answer(study(alone, HLM, row("slm", 0.0, forwards=0.0)), "LLM alone", Measure.FORWARDS)
    assert claim.outcome is Outcome.MIXED
    assert "worse than slm" in claim.sentence
    assert "no difference shown to hlm (equal)" in claim.sentence
