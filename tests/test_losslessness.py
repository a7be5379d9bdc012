"""Tokens emitted under `hlm` are the LLM's own, through the whole wire, for every uplink."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

import mutants
from chi_square import (
    CAUGHT,
    FIXED_UPLINKS,
    LENGTH,
    LOSSLESS,
    MOVING_UPLINKS,
    SHAPES,
    UPLINKS,
    Answers,
    Context,
    V,
    X,
    Y,
    acceptance_p_value,
    after_the_last,
    answers,
    conditional_p_value,
    coupled_acceptance,
    ids,
    law,
    p_value,
    quantised,
    served,
    shaped,
    total_variation,
)
from fakes import Bench, FakeDrafter, FakeEngine, Logits, contextual, fixed, serving
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin
from uihlm_proto.codecs import CODECS
from uihlm_proto.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Sample:
    codec: str
    written: Answers


@pytest.fixture(scope="module")
def tokens(thorough: bool) -> int:
    return 12_000 if thorough else 2500


@pytest.fixture(scope="module", params=UPLINKS)
def sample(request: pytest.FixtureRequest, tokens: int) -> Sample:
    return Sample(request.param, served(fixed(X), fixed(Y), request.param, tokens))


def test_hlm_tokens_are_distributed_as_y(sample: Sample) -> None:
    assert p_value(ids(sample.written), Y) > LOSSLESS


def test_hlm_tokens_do_not_depend_on_the_token_before(sample: Sample) -> None:
    assert conditional_p_value(after_the_last(sample.written), lambda before: Y) > LOSSLESS


def test_accepted_and_resampled_tokens_have_the_law_of_their_rule(sample: Sample) -> None:
    if sample.codec == "coupled":
        # Whether the draft stood says nothing of min(x, y) here: the law is that of the race.
        accepted = [1.0 / np.maximum(X / X[i], Y / Y[i]).sum() for i in range(V)]
        stood, fell = np.array(accepted), Y - accepted
    elif sample.codec in MOVING_UPLINKS:
        pytest.skip("x̂ moves: its law is that of each verdict, below")
    else:
        x_hat = quantised(X, sample.codec)
        stood, fell = np.minimum(x_hat, Y), np.maximum(Y - x_hat, 0.0)
    assert p_value(ids(sample.written, [Origin.ACCEPTED]), stood / stood.sum()) > LOSSLESS
    assert p_value(ids(sample.written, [Origin.RESAMPLED]), fell / fell.sum()) > LOSSLESS


def test_as_many_drafts_stand_as_can(sample: Sample) -> None:
    tv = total_variation(quantised(X, sample.codec), Y)
    expected = coupled_acceptance(X, Y) if sample.codec == "coupled" else 1.0 - tv
    assert expected >= (1.0 - tv) / (1.0 + tv)
    if sample.codec in MOVING_UPLINKS:
        told = [r.tv for answer in sample.written for r in answer]
        assert len(set(told)) > ("alpha" in sample.codec), "x̂ never moved"
        expected = 1.0 - float(np.mean(told))
    assert acceptance_p_value(sample.written, expected) > LOSSLESS


def test_verdicts_tell_y_d_and_what_they_know_of_x(sample: Sample) -> None:
    x_hat = quantised(X, sample.codec)
    for record in (r for answer in sample.written for r in answer):
        if record.origin is Origin.ACCEPTED:
            assert record.y_d == pytest.approx(Y[record.token], rel=1e-5)
            assert sample.codec in MOVING_UPLINKS or record.x_d == pytest.approx(x_hat[record.token], rel=1e-3)
        if sample.codec == "coupled":
            assert record.tv is None and record.reject_prob is None
        else:
            assert sample.codec in MOVING_UPLINKS or record.tv == pytest.approx(total_variation(x_hat, Y), abs=1e-3)
            assert record.reject_prob == pytest.approx(max(0.0, 1.0 - record.y_d / record.x_d), abs=1e-6)


def test_llm_tokens_are_distributed_as_y(tokens: int) -> None:
    written = served(fixed(X), fixed(Y), "dense32", tokens, policy="llm")
    assert {r.origin for answer in written for r in answer} == {Origin.LLM}
    assert p_value(ids(written), Y) > LOSSLESS
    assert conditional_p_value(after_the_last(written), lambda before: Y) > LOSSLESS


@pytest.mark.parametrize("sampling", SHAPES, ids=str)
@pytest.mark.parametrize("codec", FIXED_UPLINKS)
def test_the_sampling_contract_shapes_both_ends(codec: str, sampling: Sampling, thorough: bool) -> None:
    x, y = quantised(shaped(X, sampling), codec), shaped(Y, sampling)
    written = served(fixed(X), fixed(Y), codec, 4000 if thorough else 500, sampling=sampling)
    assert p_value(ids(written), y) > LOSSLESS
    expected = coupled_acceptance(x, y) if codec == "coupled" else 1.0 - total_variation(x, y)
    assert acceptance_p_value(written, expected) > LOSSLESS
    assert all(r.x_d == pytest.approx(x[r.token], rel=1e-3) for a in written for r in a if r.origin is Origin.ACCEPTED)


@pytest.mark.parametrize("sampling", SHAPES, ids=str)
def test_the_sampling_contract_shapes_llm(sampling: Sampling) -> None:
    assert (
        p_value(ids(served(fixed(X), fixed(Y), "dense32", 1000, policy="llm", sampling=sampling)), shaped(Y, sampling))
        > LOSSLESS
    )


@pytest.mark.parametrize("policy", ["hlm", "llm"])
@pytest.mark.parametrize("codec", UPLINKS)
def test_temperature_zero_writes_the_best_token(codec: str, policy: str) -> None:
    y = contextual(V, salt=2)
    with serving(FakeEngine(y, V)) as address:
        drafter = FakeDrafter(contextual(V, salt=1), V)
        with Bench(address, drafter, codec, Sampling(temperature=0.0)) as bench:
            context = [1, 2, 3]
            for record in bench.run(policy, context, max_tokens=60):
                assert record.token == int(np.argmax(y(context)))
                context.append(record.token)


# --- contexts: a wrong cache, a row too late, an id too few ---------------------------------------------------------

NARROW = 4
PROMPT = (1, 2)


def context_pairs(written: Answers, origins: Sequence[Origin] = tuple(Origin)) -> list[tuple[Context, int]]:
    """Every token with the two before it."""
    pairs = []
    for answer in written:
        line = [*PROMPT, *(r.token for r in answer)]
        pairs += [((line[i], line[i + 1]), r.token) for i, r in enumerate(answer) if r.origin in origins]
    return pairs


@dataclass(frozen=True, slots=True)
class Pair:
    x: Logits
    y: Logits
    address: object

    def write(
        self, policy: str, tokens: int, codec: str = "dense32", settings: PolicySettings | None = None
    ) -> Answers:
        with Bench(self.address, FakeDrafter(self.x, NARROW), codec) as bench:
            return [
                bench.run(policy, PROMPT, index=i, max_tokens=LENGTH, settings=settings)
                for i in range(tokens // LENGTH)
            ]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    x, y = (contextual(NARROW, salt, spread=0.8, window=2) for salt in (1, 2))
    with serving(FakeEngine(y, NARROW)) as address:
        yield Pair(x, y, address)


@pytest.mark.parametrize(
    ("policy", "codec"),
    [
        *(("hlm", name) for name in [*CODECS, MOVING_UPLINKS[0]]),
        pytest.param("hlm", "lattice:k=2,l=8", marks=pytest.mark.slow),
        ("llm", "dense32"),
    ],
)
def test_tokens_follow_y_given_what_came_before(pair: Pair, policy: str, codec: str, thorough: bool) -> None:
    tokens = 6000 if thorough else 1000
    assert conditional_p_value(context_pairs(pair.write(policy, tokens, codec)), law(pair.y)) > LOSSLESS


def test_a_row_too_late_is_caught(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.stale_row(monkeypatch)
    assert conditional_p_value(context_pairs(pair.write("hlm", 1000)), law(pair.y)) < CAUGHT


# --- skipping: not lossless, and said so ----------------------------------------------------------------------------


@pytest.mark.parametrize("codec", FIXED_UPLINKS)
def test_slm_tokens_are_distributed_as_what_the_codec_makes_of_x(codec: str) -> None:
    # No base station listens there: a device that never asks must not miss it.
    with Bench("127.0.0.1:9", FakeDrafter(fixed(X), V), codec) as bench:
        written = answers(bench, "slm", 3000)
    assert {r.origin for answer in written for r in answer} == {Origin.LOCAL}
    x_hat = quantised(X, codec)
    assert p_value(ids(written), x_hat) > LOSSLESS
    assert conditional_p_value(after_the_last(written), lambda before: x_hat) > LOSSLESS


def test_under_a_coin_skipped_tokens_follow_x_and_uploaded_ones_y(pair: Pair, thorough: bool) -> None:
    tokens = 6000 if thorough else 1500
    written = pair.write("random", tokens, settings=PolicySettings(rate=0.5))
    skipped = context_pairs(written, [Origin.LOCAL])
    uploaded = context_pairs(written, [Origin.ACCEPTED, Origin.RESAMPLED])
    assert stats.binomtest(len(uploaded), tokens, 0.5).pvalue > LOSSLESS
    assert conditional_p_value(skipped, law(pair.x)) > LOSSLESS
    assert conditional_p_value(uploaded, law(pair.y)) > LOSSLESS
    assert conditional_p_value(skipped, law(pair.y)) < CAUGHT
    assert conditional_p_value(uploaded, law(pair.x)) < CAUGHT


def test_a_rule_that_looks_at_the_draft_is_biased_as_the_formula_says() -> None:
    """P(t) = x_t where t is skipped, min(x_t, y_t) where it is uploaded, plus the replacements' share."""
    theta = 0.85
    asked = theta < 1.0 - X
    replaced = np.where(asked, np.maximum(X - Y, 0.0), 0.0).sum()
    residual = np.maximum(Y - X, 0.0)
    mixture = np.where(asked, np.minimum(X, Y), X) + replaced * residual / residual.sum()
    with serving(FakeEngine(fixed(Y), V)) as address, Bench(address, FakeDrafter(fixed(X), V)) as bench:
        written = answers(bench, "confidence", 2500, PolicySettings(theta_c=theta))
    assert p_value(ids(written), mixture) > LOSSLESS
    assert p_value(ids(written), Y) < CAUGHT
