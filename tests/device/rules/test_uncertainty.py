"""u is the share of tempered samples that differ from the draft: its mean, its sampled form, and the paper's footnote."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import binom

from uihlm_device.rules.uncertainty import (
    _NEAR,
    _POWERS,
    _RATE,
    MIDPOINTS,
    SAMPLES,
    Estimator,
    _Grid,
    _power_sums,
    draft_probabilities,
    expected,
    expected_before,
    monte_carlo,
    uncertainty,
)
from uihlm_proto.randomness import session_key
from uihlm_proto.sampling import Sampling

KEY = session_key(1, 2)


def tempered(z, d, theta):
    """softmax(z/θ)_d in float64, every term summed."""
    z = np.asarray(z, np.float64)
    return float(np.exp((z[d] - z.max()) / theta) / np.exp((z - z.max()) / theta).sum())


def midpoint(z, d):
    return 1.0 - np.mean([tempered(z, d, (i + 0.5) / 10) for i in range(20)])


def shapes(vocabulary_size):
    rng = np.random.default_rng(vocabulary_size)
    spiky = np.zeros(vocabulary_size)
    spiky[1] = 14.0
    yield "flat", np.zeros(vocabulary_size)
    yield "tied", rng.integers(0, 2, vocabulary_size) * 3.0
    yield "spiky", spiky
    yield "usual", rng.normal(size=vocabulary_size) * 2.5
    yield "peaked", rng.normal(size=vocabulary_size) * 7
    yield "far apart", rng.uniform(-300, 300, vocabulary_size)


@pytest.mark.parametrize("vocabulary_size", [2, 12, 1000, 49_152])
def test_expected_is_the_midpoint_formula(vocabulary_size):
    for name, shape in shapes(vocabulary_size):
        z = shape.astype(np.float32)
        for d in {0, 1, int(z.argmax()), int(z.argmin()), vocabulary_size // 2}:
            assert expected(z, d) == pytest.approx(midpoint(z, d), abs=5e-6), (name, d)


@settings(deadline=None, max_examples=150)
@given(
    z=st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=40).map(lambda v: np.array(v, np.float32)),
    data=st.data(),
)
def test_each_temperature_has_the_full_softmax(z, data):
    d = data.draw(st.integers(0, z.size - 1))
    temperatures = np.array(data.draw(st.lists(st.floats(1e-3, 2.0), min_size=1, max_size=5)))
    before = z.copy()
    result = draft_probabilities(z, d, temperatures)
    assert result == pytest.approx([tempered(z, d, theta) for theta in temperatures], abs=2e-5)
    assert (z == before).all()


def test_many_unlikely_tokens_still_count():
    """100,000 tokens 9 below the largest outweigh it above θ ≈ 0.8: leaving the tail out would say u is small."""
    for tail in (np.full(100_000, -9.0), np.linspace(-9.02, -8.98, 100_000)):
        z = np.concatenate([[0.0], tail]).astype(np.float32)
        assert expected(z, 0) == pytest.approx(midpoint(z, 0), abs=1e-5)
        assert expected(z, 0) > 0.4


@pytest.mark.parametrize(("tokens", "gap"), [(32_000, -7.505), (151_000, -9.01), (262_143, -12.3)])
@pytest.mark.parametrize("spread", [0.0, 0.001, 0.3])
def test_a_crowd_of_equals_far_below_counts_exactly(tokens, gap, spread):
    """Padding rows of a vocabulary share one logit, wherever in its bin that lies."""
    z = np.full(tokens + 1, gap, np.float32) + np.float32(spread) * np.random.default_rng(0).normal(size=tokens + 1)
    z = z.astype(np.float32)
    z[0] = 0.0
    found = draft_probabilities(z, 0, MIDPOINTS)
    assert found == pytest.approx([tempered(z, 0, theta) for theta in MIDPOINTS], abs=2e-5)


def test_powers_combine_to_what_a_token_weighs_however_deep_it_lies():
    """Not at the depths alone at which they were fitted, nor at the midpoints alone."""
    temperatures = np.concatenate([np.geomspace(1e-3, 2.0, 300), MIDPOINTS])
    gaps = -np.concatenate([np.linspace(_NEAR, 60, 5001), np.linspace(60, 700, 300)])
    weight = np.exp(np.outer(gaps, 1.0 / temperatures))
    combined = np.exp(_RATE * np.outer(gaps, _POWERS)) @ _Grid(temperatures).combination.T
    error = np.abs(combined - weight)
    assert (error <= np.maximum(1.5e-5 * weight, 3.2e-10)).all()
    # Nor do great numbers of both signs meet: float32 sums of powers are good enough.
    assert (
        np.abs(_Grid(temperatures).combination) @ np.exp(_RATE * np.outer(_POWERS, gaps))
        < 5 * np.maximum(weight.T, 2e-5)
    ).all()


def test_sums_of_powers_are_those_of_every_token():
    gap = np.random.default_rng(4).uniform(-60, -10, 49_152).astype(np.float32)
    gap[7] = -np.inf
    direct = [np.exp(_RATE * k * gap.astype(np.float64)).sum() for k in _POWERS]
    assert _power_sums(gap.copy()) == pytest.approx(direct, rel=2e-6)


@pytest.mark.parametrize("edge", [-9.99, -10.0, -10.01])
def test_a_crowd_at_the_edge_counts_once(edge):
    z = np.full(49_152, edge, np.float32)
    z[5] = 0.0
    found = draft_probabilities(z, 5, MIDPOINTS)
    assert found == pytest.approx([tempered(z, 5, theta) for theta in MIDPOINTS], abs=1e-5)


def test_the_midpoints_are_those_of_the_paper():
    assert pytest.approx([0.05 + 0.1 * i for i in range(20)]) == MIDPOINTS
    assert SAMPLES == 20


def test_a_certain_draft_has_u_0_and_a_hopeless_one_u_1():
    z = np.array([0.0, 500.0], np.float32)
    assert expected(z, 1) == 0.0
    assert expected(z, 0) == 1.0
    assert monte_carlo(z, 1, KEY, 0) == 0.0
    assert monte_carlo(z, 0, KEY, 0) == 1.0


def test_forbidden_tokens_of_minus_infinity_count_nothing():
    z = np.array([1.0, -math.inf, 0.5, -math.inf], np.float32)
    assert expected(z, 0) == pytest.approx(midpoint(z[[0, 2]], 0), abs=1e-6)
    assert expected(z, 1) == 1.0


def integral(z, d):
    return quad(lambda theta: 1.0 - tempered(z, d, theta), 0.0, 2.0)[0] / 2.0


@pytest.mark.parametrize("d", [0, 1, 2])
def test_monte_carlo_converges_to_the_integral_and_so_nearly_to_expected(d):
    z = np.array([1.5, 1.0, -0.5, 0.2], np.float32)
    draws = [monte_carlo(z, d, session_key(5, i), i) for i in range(1500)]
    error = np.std(draws) / math.sqrt(len(draws))
    assert np.mean(draws) == pytest.approx(integral(z, d), abs=4 * error)
    # The midpoint rule misses the integral by a few thousandths at this size.
    assert expected(z, d) == pytest.approx(integral(z, d), abs=5e-3)


def test_monte_carlo_is_a_multiple_of_a_twentieth_and_takes_all_of_them():
    z = np.zeros(2, np.float32)
    twentieths = {monte_carlo(z, 0, KEY, position) * 20 for position in range(400)}
    assert all(value == round(value) for value in twentieths)
    assert {6, 7, 8, 9, 10, 11, 12, 13, 14} <= {round(value) for value in twentieths}


def test_monte_carlo_is_keyed_by_session_and_position():
    z = np.array([1.0, 0.8, 0.1, 0.0], np.float32)

    def at(key):
        return [monte_carlo(z, 0, key, position) for position in range(30)]

    assert at(KEY) == at(KEY)
    assert at(KEY) != at(session_key(1, 3))
    assert len(set(at(KEY))) > 3


def test_the_noise_of_20_samples_lets_a_draft_of_u_a_tenth_slip_under_the_threshold():
    """Binomial(20, 0.1) is at most 1 in 39 % of draws: then u ≤ 0.05, under the risk-averse threshold of 0.073."""
    gap = brentq(lambda g: integral([g, 0.0], 0) - 0.10, 0.1, 50.0)
    z = np.array([gap, 0.0], np.float32)
    below = sum(monte_carlo(z, 0, session_key(0, i), 7) < 0.073 for i in range(3000))
    share = binom.cdf(1, 20, 0.1)
    assert share == pytest.approx(0.39, abs=0.005)
    assert binom.ppf(0.001, 3000, share) <= below <= binom.ppf(0.999, 3000, share)
    # The default estimator has no such noise: it is above the threshold every time.
    assert expected(z, 0) == pytest.approx(0.10, abs=0.002)


def test_the_estimator_is_the_one_asked_for():
    z = np.array([1.0, 0.3, 0.0], np.float32)
    assert uncertainty(Estimator.EXPECTED, z, 0, KEY, 4) == expected(z, 0)
    assert uncertainty(Estimator.MONTE_CARLO, z, 0, KEY, 4) == monte_carlo(z, 0, KEY, 4)
    assert Estimator("monte-carlo") is Estimator.MONTE_CARLO and Estimator("expected") is Estimator.EXPECTED


def test_midpoints_cannot_be_spoilt_by_an_answer():
    before = MIDPOINTS.copy()
    expected(np.arange(5, dtype=np.float32), 2)
    assert (before == MIDPOINTS).all()


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_mean_over_drafts_is_the_sum_over_every_token(spread, temperature):
    z = (np.random.default_rng(3).normal(size=12_000) * spread).astype(np.float32)
    x = Sampling(temperature).distribution(z)
    every = [np.exp((z.astype(float) - z.max()) / theta) for theta in MIDPOINTS]
    whole = 1.0 - np.mean([(x * p).sum() / p.sum() for p in every])
    assert -2e-5 <= expected_before(z, x) - whole <= 1.2e-4


def test_mean_over_drafts_is_the_mean_of_u():
    z = np.random.default_rng(4).normal(size=9).astype(np.float32) * 2
    x = Sampling(0.6, top_k=5).distribution(z)
    assert expected_before(z, x) == pytest.approx(sum(x[d] * expected(z, d) for d in range(9)), abs=2e-5)
