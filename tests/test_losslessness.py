"""Tokens emitted under `hlm` are the LLM's own, through the whole wire; and the measure fails on what is wrong.

x and y are known, everything between them is real: decode loop, codec, client, interceptor, gRPC, session, batcher,
judge. Every draw is counter-based, so every p-value below is a constant of the code: right code stays above `LOSSLESS`,
mutants fall under `CAUGHT`. What is expected comes from formulas written here, not from the code under test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

import mutants
from fakes import Bench, FakeDrafter, FakeEngine, Logits, contextual, fixed, serving
from uihlm_device.policies import PolicySettings
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_proto.codecs import CODECS
from uihlm_proto.sampling import Sampling

FloatArray = npt.NDArray[np.float64]
Answers = list[list[TokenRecord]]
Context = tuple[int, ...]

# Chosen so that every mutant shows in few tokens. TV(x, y) = 0.46.
X = np.array([0.02, 0.20, 0.02, 0.09, 0.02, 0.32, 0.10, 0.10, 0.02, 0.02, 0.02, 0.07])
Y = np.array([0.20, 0.32, 0.08, 0.03, 0.03, 0.03, 0.03, 0.15, 0.03, 0.03, 0.04, 0.03])
V = X.size
LOSSLESS, CAUGHT = 1e-4, 1e-6
LENGTH = 250
PLAIN = Sampling()
SHAPES = [
    Sampling(temperature=0.6),
    Sampling(top_k=5),
    Sampling(top_p=0.8),
    Sampling(temperature=1.4, top_k=7, top_p=0.9),
]


def shaped(p: FloatArray, sampling: Sampling) -> FloatArray:
    """Temperature, then top-k, then top-p, then normalise; for p without ties."""
    q = p ** (1.0 / sampling.temperature)
    order = np.argsort(-q)
    kept = order[: sampling.top_k or q.size]
    mass = np.cumsum(q[kept]) / q[kept].sum()
    kept = kept[: 1 + np.count_nonzero(mass < sampling.top_p - 1e-9)]
    out = np.zeros_like(q)
    out[kept] = q[kept] / q[kept].sum()
    return out


def total_variation(x: FloatArray, y: FloatArray) -> float:
    return float(np.abs(x - y).sum() / 2)


def answers(bench: Bench, policy: str, tokens: int, settings: PolicySettings | None = None) -> Answers:
    """Write answers under different keys and to prompts of different length, `tokens` in all."""
    written: Answers = []
    for index in range(-(-tokens // LENGTH)):
        prompt = [1, *range(1 + index % 5)]
        limit = min(LENGTH, tokens - index * LENGTH)
        written.append(bench.run(policy, prompt, index=index, max_tokens=limit, settings=settings))
    assert sum(map(len, written)) == tokens
    return written


def served(
    x: Logits, y: Logits, codec: str, tokens: int, *, policy: str = "hlm", sampling: Sampling = PLAIN
) -> Answers:
    """Write with drafter x and LLM y."""
    with serving(FakeEngine(y, V)) as address, Bench(address, FakeDrafter(x, V), codec, sampling) as bench:
        return answers(bench, policy, tokens)


def ids(written: Answers, origins: Sequence[Origin] = tuple(Origin)) -> list[int]:
    return [r.token for answer in written for r in answer if r.origin in origins]


def p_value(tokens: Sequence[int], p: FloatArray) -> float:
    """Chi-square of tokens against p `[V]`; 0 if one of no mass came up."""
    counts = np.bincount(tokens, minlength=p.size)
    if counts[p == 0.0].any():
        return 0.0
    return float(stats.chisquare(counts[p > 0.0], p[p > 0.0] * len(tokens)).pvalue)


def conditional_p_value(pairs: Sequence[tuple[Context, int]], p_of: Callable[[Context], FloatArray]) -> float:
    """Chi-square of tokens against p given what came before them: one statistic over all contexts."""
    counts: dict[Context, FloatArray] = {}
    for context, token in pairs:
        p = p_of(context)
        counts.setdefault(context, np.zeros(p.size))[token] += 1
    statistic, freedom = 0.0, 0
    for context, seen in counts.items():
        expected = p_of(context) * seen.sum()
        if seen[expected == 0.0].any():
            return 0.0
        here = expected > 0.0
        statistic += float(((seen - expected)[here] ** 2 / expected[here]).sum())
        freedom += int(here.sum()) - 1
    return float(stats.chi2.sf(statistic, freedom))


def after_the_last(written: Answers) -> list[tuple[Context, int]]:
    """Every token of an answer but the first, with the one before it."""
    return [((a.token,), b.token) for answer in written for a, b in itertools.pairwise(answer)]


def acceptance_p_value(written: Answers, expected: float) -> float:
    judged = [r for answer in written for r in answer if r.uploaded]
    accepted = sum(r.origin is Origin.ACCEPTED for r in judged)
    return float(stats.binomtest(accepted, len(judged), expected).pvalue)


def coupled_acceptance(x: FloatArray, y: FloatArray) -> float:
    """P(argmin E/x = argmin E/y) = Σ_i 1 / Σ_j max(x_j/x_i, y_j/y_i) over tokens that both can draw."""
    both = np.flatnonzero((x > 0) & (y > 0))
    return float(sum(1.0 / np.maximum(x / x[i], y / y[i]).sum() for i in both))


@dataclass(frozen=True, slots=True)
class Sample:
    codec: str
    written: Answers


SIZES = [2500, pytest.param(12_000, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=SIZES)
def tokens(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module", params=list(CODECS))
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
    else:
        stood, fell = np.minimum(X, Y), np.maximum(Y - X, 0.0)
    assert p_value(ids(sample.written, [Origin.ACCEPTED]), stood / stood.sum()) > LOSSLESS
    assert p_value(ids(sample.written, [Origin.RESAMPLED]), fell / fell.sum()) > LOSSLESS


def test_as_many_drafts_stand_as_can(sample: Sample) -> None:
    tv = total_variation(X, Y)
    expected = coupled_acceptance(X, Y) if sample.codec == "coupled" else 1.0 - tv
    assert expected >= (1.0 - tv) / (1.0 + tv)
    assert acceptance_p_value(sample.written, expected) > LOSSLESS


def test_verdicts_tell_y_d_and_what_they_know_of_x(sample: Sample) -> None:
    for record in (r for answer in sample.written for r in answer):
        if record.origin is Origin.ACCEPTED:
            assert record.y_d == pytest.approx(Y[record.token], rel=1e-5)
            assert record.x_d == pytest.approx(X[record.token], rel=1e-3)
        if sample.codec == "coupled":
            assert record.tv is None and record.reject_prob is None
        else:
            assert record.tv == pytest.approx(total_variation(X, Y), abs=1e-3)
            assert record.reject_prob == pytest.approx(max(0.0, 1.0 - record.y_d / record.x_d), abs=1e-6)


def test_llm_tokens_are_distributed_as_y(tokens: int) -> None:
    written = served(fixed(X), fixed(Y), "dense32", tokens, policy="llm")
    assert {r.origin for answer in written for r in answer} == {Origin.LLM}
    assert p_value(ids(written), Y) > LOSSLESS
    assert conditional_p_value(after_the_last(written), lambda before: Y) > LOSSLESS


@pytest.mark.parametrize("sampling", SHAPES, ids=str)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("tokens", [500, pytest.param(4000, marks=pytest.mark.slow)])
def test_the_sampling_contract_shapes_both_ends(codec: str, sampling: Sampling, tokens: int) -> None:
    x, y = shaped(X, sampling), shaped(Y, sampling)
    written = served(fixed(X), fixed(Y), codec, tokens, sampling=sampling)
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
@pytest.mark.parametrize("codec", CODECS)
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


def law(logits: Logits) -> Callable[[Context], FloatArray]:
    table: dict[Context, FloatArray] = {}

    def of(context: Context) -> FloatArray:
        if context not in table:
            p = np.exp(logits(context).astype(float))
            table[context] = p / p.sum()
        return table[context]

    return of


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


@pytest.mark.parametrize("tokens", [1000, pytest.param(6000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("policy", "codec"), [*(("hlm", name) for name in CODECS), ("llm", "dense32")])
def test_tokens_follow_y_given_what_came_before(pair: Pair, policy: str, codec: str, tokens: int) -> None:
    assert conditional_p_value(context_pairs(pair.write(policy, tokens, codec)), law(pair.y)) > LOSSLESS


def test_a_row_too_late_is_caught(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.stale_row(monkeypatch)
    assert conditional_p_value(context_pairs(pair.write("hlm", 1000)), law(pair.y)) < CAUGHT


# --- skipping: not lossless, and said so ----------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_slm_tokens_are_distributed_as_x(codec: str) -> None:
    # No base station listens there: a device that never asks must not miss it.
    with Bench("127.0.0.1:9", FakeDrafter(fixed(X), V), codec) as bench:
        written = answers(bench, "slm", 3000)
    assert {r.origin for answer in written for r in answer} == {Origin.LOCAL}
    assert p_value(ids(written), X) > LOSSLESS
    assert conditional_p_value(after_the_last(written), lambda before: X) > LOSSLESS


@pytest.mark.parametrize("tokens", [1500, pytest.param(6000, marks=pytest.mark.slow)])
def test_under_a_coin_skipped_tokens_follow_x_and_uploaded_ones_y(pair: Pair, tokens: int) -> None:
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


# --- drafter = LLM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [PLAIN, *SHAPES], ids=str)
@pytest.mark.parametrize("codec", ["dense32", "coupled"])
def test_a_drafter_that_is_the_llm_is_always_right(codec: str, sampling: Sampling) -> None:
    z = contextual(V, salt=5)
    for record in (r for answer in served(z, z, codec, 500, sampling=sampling) for r in answer):
        assert record.origin is Origin.ACCEPTED
        assert record.x_d == pytest.approx(record.y_d, rel=1e-5)
        assert record.tv is None or record.tv < 1e-6


def test_half_precision_costs_its_own_rounding_and_no_more() -> None:
    """Identity under dense16: the expected rejection of each verdict is 1 − y_d/x̂_d, its TV that of x̂ and y."""
    z = contextual(V, salt=5)
    written = served(z, z, "dense16", 1000)
    rejection = 0.0
    for index, answer in enumerate(written):
        line = [1, *range(1 + index % 5)]
        for record in answer:
            y = law(z)(tuple(line))
            x_hat = y.astype(np.float16).astype(float)
            x_hat /= x_hat.sum()
            tv = total_variation(x_hat, y)
            assert 0.0 < tv < 2.0**-11
            assert record.tv == pytest.approx(tv, rel=1e-2)
            rejection += tv
            line.append(record.token)
    assert acceptance_p_value(written, 1.0 - rejection / 1000) > LOSSLESS


# --- the mutants ----------------------------------------------------------------------------------------------------


def defects(table: dict[str, mutants.Defect]) -> list[object]:
    """Defects that take many tokens to show are slow."""
    return [
        pytest.param(defect, id=name, marks=[pytest.mark.slow] if defect.tokens > 1500 else [])
        for name, defect in table.items()
    ]


@pytest.mark.parametrize("defect", defects(mutants.RESIDUAL))
def test_mutants_of_the_residual_judge_are_caught(defect: mutants.Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    defect.mutant(monkeypatch)
    assert p_value(ids(served(fixed(X), fixed(Y), "dense32", defect.tokens)), Y) < CAUGHT


@pytest.mark.parametrize("defect", defects(mutants.COUPLED))
def test_mutants_of_the_coupled_judge_are_caught(defect: mutants.Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    defect.mutant(monkeypatch)
    assert p_value(ids(served(fixed(X), fixed(Y), "coupled", defect.tokens)), Y) < CAUGHT


@pytest.mark.parametrize(("codec", "defect"), mutants.WASTEFUL.values(), ids=mutants.WASTEFUL.keys())
def test_rules_that_are_right_but_wasteful_are_caught_by_acceptance(
    codec: str, defect: mutants.Defect, monkeypatch: pytest.MonkeyPatch
) -> None:
    defect.mutant(monkeypatch)
    written = served(fixed(X), fixed(Y), codec, defect.tokens)
    assert p_value(ids(written), Y) > LOSSLESS
    tv = total_variation(X, Y)
    least = (1.0 - tv) / (1.0 + tv) if codec == "coupled" else 1.0 - tv
    assert acceptance_p_value(written, least) < CAUGHT
