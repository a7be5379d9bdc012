"""What known models should write through the real wire, and how sure a sample of it can make us.

x and y are known, everything between them is real: decode loop, codec, client, interceptor, gRPC, session, batcher,
judge. Every draw is counter-based, so every p-value of these tests is a constant of the code: right code stays above
`LOSSLESS`, mutants fall under `CAUGHT`. What is expected comes from formulas written here, not from the code under test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from fakes import Bench, FakeDrafter, FakeEngine, Logits, serving
from uihlm_device.rules.policies import PolicySettings
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
# K and ℓ of lattice codecs whose x̂ stays put; the narrow one drops more than a quarter of X.
GRIDS = {"lattice": (16, 128), "lattice:k=4,l=16": (4, 16)}
FIXED_UPLINKS = [*CODECS, "lattice:k=4,l=16"]
# Of these, x̂ depends on x and on what was drafted before.
MOVING_UPLINKS = ["lattice:tv=0.05,alpha=0.3", "lattice:tv=0.2"]
UPLINKS = [*FIXED_UPLINKS, MOVING_UPLINKS[0], pytest.param(MOVING_UPLINKS[1], marks=pytest.mark.slow)]
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


def quantised(x: FloatArray, codec: str) -> FloatArray:
    """What a codec makes of x: its largest, in counts by largest remainders for a lattice, x itself for the others."""
    if codec not in GRIDS:
        return x
    k, steps = GRIDS[codec]
    top = sorted(range(x.size), key=lambda i: (-x[i], i))[:k]
    shares = x[top] / x[top].sum() * steps
    counts = np.floor(shares)
    for place in sorted(range(len(top)), key=lambda j: (counts[j] - shares[j], top[j]))[: int(steps - counts.sum())]:
        counts[place] += 1
    x_hat = np.zeros(x.size)
    x_hat[top] = counts / steps
    return x_hat


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


def law(logits: Logits) -> Callable[[Context], FloatArray]:
    """The distribution given the ids before it."""
    table: dict[Context, FloatArray] = {}

    def of(context: Context) -> FloatArray:
        if context not in table:
            p = np.exp(logits(context).astype(float))
            table[context] = p / p.sum()
        return table[context]

    return of


def coupled_acceptance(x: FloatArray, y: FloatArray) -> float:
    """P(argmin E/x = argmin E/y) = Σ_i 1 / Σ_j max(x_j/x_i, y_j/y_i) over tokens that both can draw."""
    both = np.flatnonzero((x > 0) & (y > 0))
    return float(sum(1.0 / np.maximum(x / x[i], y / y[i]).sum() for i in both))
