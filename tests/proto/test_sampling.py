"""From logits to a distribution and from a distribution to a token: order, ties, exactness."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from uihlm_proto import sampling
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, session_key, to_uniform, uniform, words
from uihlm_proto.sampling import Row, Sampling, draw, race
from uihlm_proto.v1 import verification_pb2 as pb

KEY = session_key(11, 0)
SPIKY = np.array([30.0, 0.0, -5.0, 29.5, -80.0], np.float32)

values = st.one_of(
    st.floats(-60, 60, width=32),
    st.sampled_from([0.0, 1.0, -1.0]),  # many ties
)
logits_of = st.lists(values, min_size=1, max_size=40).map(lambda z: np.array(z, np.float32))
contracts = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0.0), st.floats(0.01, 5.0)),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.01, 1.0),
)


def reference(z, contract):
    """The contract by its words, in Python floats: softmax at T, top-k, then top-p of what top-k left."""
    scaled = [float(v - z.max()) / contract.temperature for v in z]
    p = [math.exp(v) for v in scaled]
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))
    if contract.top_k:
        order = order[: contract.top_k]
    total = sum(p[i] for i in order)
    kept, mass = [], 0.0
    for i in order:
        if kept and mass >= contract.top_p * total:
            break
        kept.append(i)
        mass += p[i]
    return np.array([p[i] / mass if i in kept else 0.0 for i in range(len(p))])


@settings(deadline=None)
@given(z=logits_of, contract=contracts)
def test_a_distribution_is_not_negative_and_sums_to_1(z, contract):
    p = contract.distribution(z)
    assert p.shape == z.shape and p.dtype == np.float64
    assert (p >= 0.0).all()
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


@settings(deadline=None)
@given(z=logits_of, contract=contracts)
def test_logits_are_left_as_they_were(z, contract):
    before = z.copy()
    contract.distribution(z)
    assert (z == before).all()


@settings(deadline=None, max_examples=300)
@given(
    z=st.lists(st.integers(-8, 8), min_size=1, max_size=12).map(lambda v: np.array(v, np.float32)),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.integers(0, 13),
    # Off the grid of masses that these logits can make, so that rounding never decides a cut.
    top_p=st.sampled_from([0.1234567, 0.4567891, 0.7891234, 0.9512345, 1.0]),
)
def test_distribution_equals_the_contract_word_for_word(z, temperature, top_k, top_p):
    contract = Sampling(temperature, top_k, top_p)
    assert contract.distribution(z) == pytest.approx(reference(z, contract), abs=1e-6)


@settings(deadline=None)
@given(z=logits_of)
def test_greedy_puts_all_mass_on_the_first_largest_logit(z):
    p = Sampling(temperature=0.0).distribution(z)
    assert p[int(np.flatnonzero(z == z.max())[0])] == 1.0
    assert p.sum() == 1.0


def test_the_temperature_acts_before_top_p():
    # At T = 1 the first token has 0.88 of the mass and top-p keeps it alone; at T = 4 it has 0.62 and two are kept.
    z = np.array([2.0, 0.0], np.float32)
    assert np.count_nonzero(Sampling(1.0, top_p=0.7).distribution(z)) == 1
    assert np.count_nonzero(Sampling(4.0, top_p=0.7).distribution(z)) == 2


def test_top_k_acts_before_top_p():
    # Four equal tokens: top-p 0.5 alone keeps two; after top-k 2 one of the two left has half of their mass.
    z = np.zeros(4, np.float32)
    assert np.flatnonzero(Sampling(top_p=0.5).distribution(z)).tolist() == [0, 1]
    assert np.flatnonzero(Sampling(top_k=2, top_p=0.5).distribution(z)).tolist() == [0]


def test_a_top_k_beyond_the_vocabulary_keeps_all():
    z = np.log(np.array([0.64, 0.27, 0.09])).astype(np.float32)
    for top_k in (0, 3, 5):
        assert np.flatnonzero(Sampling(top_k=top_k, top_p=0.7).distribution(z)).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.9), (0, 0.999), (50, 1.0), (50, 0.9), (10_000, 0.3)])
def test_a_large_vocabulary_is_filtered_as_the_contract_says(seed, top_k, top_p):
    z = (np.random.default_rng(seed).normal(size=3000) * (1 + seed)).astype(np.float32)
    contract = Sampling(1.0, top_k, top_p)
    p, expected = contract.distribution(z), reference(z, contract)
    assert np.flatnonzero(p).tolist() == np.flatnonzero(expected).tolist()
    assert p == pytest.approx(expected, abs=1e-6)


def test_ties_at_a_cut_fall_to_the_lower_id():
    z = np.array([0.0, 3.0, 1.0, 1.0, 3.0, 1.0], np.float32)
    assert np.flatnonzero(Sampling(top_k=3).distribution(z)).tolist() == [1, 2, 4]
    assert np.flatnonzero(Sampling(top_k=1).distribution(z)).tolist() == [1]


def test_a_tiny_top_p_keeps_one_token():
    assert np.flatnonzero(Sampling(top_p=1e-9).distribution(SPIKY)).tolist() == [0]


@pytest.mark.parametrize("temperature", [1e-45, 1e-40, 1e-30, 1e-3, 1e30])
@pytest.mark.parametrize("z", [SPIKY, np.zeros(3, np.float32)], ids=["spiky", "flat"])
def test_every_allowed_temperature_gives_a_distribution(temperature, z):
    p = Sampling(temperature).distribution(z)
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


def as_received(sampling):
    """The contract after the float32 fields of the protocol's Sampling message."""
    sent = pb.Sampling(temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
    return Sampling(sent.temperature, sent.top_k, sent.top_p)


def test_temperatures_shape_alike_before_and_after_the_wire():
    """Equal models must have x = y, whatever the contract: the wire carries float32."""
    z = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])).astype(np.float32)
    contracts = [Sampling(hundredths / 100) for hundredths in range(1, 201)]
    differ = [c for c in contracts if c.distribution(z).tobytes() != as_received(c).distribution(z).tobytes()]
    assert differ == []


def test_top_p_cuts_alike_before_and_after_the_wire():
    # Tokens of one twentieth each: the cumulative masses are the very values that people type.
    z = np.zeros(20, np.float32)
    contracts = [Sampling(top_p=twentieths / 20) for twentieths in range(1, 21)]
    differ = [c for c in contracts if c.distribution(z).tobytes() != as_received(c).distribution(z).tobytes()]
    assert differ == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"temperature": -0.1}, "temperature must be a finite number of at least 0, got -0.1"),
        ({"temperature": math.nan}, "temperature must be a finite number"),
        ({"temperature": math.inf}, "temperature must be a finite number"),
        ({"top_k": -1}, "top_k must be 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.01}, "top_p must be above 0 and at most 1"),
        ({"top_p": math.nan}, "top_p must be above 0 and at most 1"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused(arguments, sentence):
    with pytest.raises(InvalidRequestError, match=sentence):
        Sampling(**arguments)


masses = st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1.0)), min_size=1, max_size=30).filter(any)


@settings(deadline=None)
@given(
    p=masses, u=st.one_of(st.floats(0, 1, exclude_min=True, exclude_max=True), st.sampled_from([2**-54, 1 - 2**-53]))
)
def test_draw_never_returns_a_token_of_zero_mass(p, u):
    assert p[draw(np.array(p), u)] > 0.0


@settings(deadline=None)
@given(p=masses, seed=st.integers(0, 1000))
def test_race_never_returns_a_token_of_zero_mass(p, seed):
    assert p[race(np.array(p), words(KEY, Role.GUMBEL, seed, len(p)))] > 0.0


def test_a_token_owns_the_lower_end_of_its_interval():
    """Both ends must agree where u falls on a border: [0, ½) is token 0, [½, 1) is token 2."""
    p = np.array([0.5, 0.0, 0.5])
    assert [draw(p, u) for u in (2.0**-54, 0.5 - 2.0**-53, 0.5, 1 - 2.0**-53)] == [0, 0, 2, 2]


def full_race(p, noise):
    """The race with every logarithm taken: argmin(E/p) is argmax(p/E)."""
    return int(np.argmax(p / -np.log(to_uniform(noise))))


@pytest.mark.parametrize("vocabulary_size", [1, 2, 12, 500, 49_152])
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0, 12.0])
def test_race_is_the_full_race(vocabulary_size, spread):
    z = (np.random.default_rng(vocabulary_size).normal(size=vocabulary_size) * spread).astype(np.float32)
    p = Sampling().distribution(z)
    for position in range(40 if vocabulary_size < 1000 else 8):
        noise = words(KEY, Role.GUMBEL, position, vocabulary_size)
        assert race(p, noise) == full_race(p, noise)


def test_a_tied_race_of_many_falls_to_the_lower_id():
    """One word for all: the likelier wins, of equals the first; among the unlikely too, whose words alone are looked at."""
    noise = np.full(5000, np.uint64(2**63 + 12345))
    p = np.full(5000, 1e-9)
    p[[40, 70, 4000]] = 0.3
    assert race(p, noise) == full_race(p, noise) == 40
    noise[[1234, 2345]] = np.uint64(2**64 - 1)
    assert race(p, noise) == full_race(p, noise) == 1234


def test_an_unlikely_token_wins_the_race_as_often_as_it_should():
    """The tail holds half of the mass in tokens each far below the likeliest: none may be lost to a short cut."""
    p = np.full(5001, 0.5 / 5000)
    p[17] = 0.5
    won = [race(p, words(KEY, Role.GUMBEL, position, 5001)) for position in range(400)]
    assert won == [full_race(p, words(KEY, Role.GUMBEL, position, 5001)) for position in range(400)]
    assert sum(token != 17 for token in won) == pytest.approx(200, abs=40)


@pytest.mark.parametrize("vocabulary_size", [12, 5000, 49_152])
@pytest.mark.parametrize(
    "contract",
    [
        *map(Sampling, (0.0, 0.01, 0.6, 1.0, 7.0, 1e38)),
        Sampling(0.6, 40),
        Sampling(0.6, 0, 0.9),
        Sampling(0.6, 40, 0.9),
    ],
    ids=str,
)
def test_logits_race_as_their_distribution_does(contract, vocabulary_size):
    rng = np.random.default_rng(vocabulary_size)
    for position in range(12):
        z = (rng.normal(size=vocabulary_size) * (position % 4) * 2).astype(np.float32)
        z[rng.integers(vocabulary_size, size=3)] = -np.inf
        noise = words(KEY, Role.GUMBEL, position, vocabulary_size)
        assert contract.race(z, noise) == race(contract.distribution(z), noise)


@pytest.mark.parametrize("vocabulary_size", [12, 5000])
@pytest.mark.parametrize(
    "contract", [*map(Sampling, (0.0, 0.01, 0.6, 1.0, 1e38)), Sampling(0.6, 4), Sampling(0.6, 0, 0.9)]
)
def test_a_row_tells_what_its_distribution_says(contract, vocabulary_size):
    rng = np.random.default_rng(vocabulary_size)
    z = (rng.normal(size=vocabulary_size) * 3).astype(np.float32)
    z[3] = -np.inf
    row, p = Row(z, contract), contract.distribution(z)
    assert (row.distribution() == p).all()
    assert [row.probability(token) for token in range(12)] == p[:12].tolist()
    assert row.probability(int(z.argmax())) == p.max()
    noise = words(KEY, Role.GUMBEL, 0, vocabulary_size)
    assert row.race(noise) == race(p, noise)


def test_an_unlikely_logit_wins_the_race_as_often_as_it_should():
    z = np.zeros(5001, np.float32)
    z[17] = math.log(5000.0)
    won = [Sampling().race(z, words(KEY, Role.GUMBEL, position, 5001)) for position in range(400)]
    assert won == [full_race(np.exp(z - z.max()), words(KEY, Role.GUMBEL, position, 5001)) for position in range(400)]
    assert sum(token != 17 for token in won) == pytest.approx(200, abs=40)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_logit_at_the_floor_of_the_likely_can_win(temperature):
    """Around a thousandth of the likeliest a token is told likely or not; with the best word and the worst it decides alone."""
    floor = temperature * math.log(1e-3)
    for offset in np.linspace(-2e-6, 2e-6, 9):
        z = np.full(5000, -90.0 * temperature, np.float32)
        z[7], z[4321] = 0.0, floor * (1 + offset)
        noise = np.full(5000, np.uint64(2**40))
        # E of the two: about 1 and about 1e-3, a little to either side of where they tie.
        for share in (0.99, 0.9999, 1.0001, 1.01):
            noise[7] = np.uint64(int(math.exp(-1.0) * 2**64))
            noise[4321] = np.uint64(int(math.exp(-1e-3 * share) * 2**64))
            p = Sampling(temperature).distribution(z)
            assert Sampling(temperature).race(z, noise) == race(p, noise) == full_race(p, noise)


@pytest.mark.parametrize("temperature", [1e-30, 1e-6, 1e-3, 0.01])
def test_logits_too_coarse_for_the_temperature_race_all_the_same(temperature):
    """At 10,000 float32 counts in thousandths: the floor falls on a logit, or on the likeliest itself."""
    rng = np.random.default_rng(3)
    z = (1e4 + rng.integers(-80, 1, 5000) * 2.0**-10).astype(np.float32)
    for position in range(40):
        noise = words(KEY, Role.GUMBEL, position, 5000).copy()
        noise[rng.integers(5000, size=300)] = np.uint64(2**64 - 2**14)
        p = Sampling(temperature).distribution(z)
        assert Sampling(temperature).race(z, noise) == full_race(p, noise)


def test_logits_no_temperature_can_part_race_as_equals():
    """Below 1e-30 the quotient 1/T is cut: what differs by 1e-39 weighs the same then, and its word may win."""
    z = np.full(1100, -1e-39, np.float32)
    z[7] = 0.0
    for position in range(60):
        noise = words(KEY, Role.GUMBEL, position, 1100)
        assert Sampling(1e-40).race(z, noise) == race(Sampling(1e-40).distribution(z), noise) == noise.argmax()


def test_tied_logits_fall_to_the_lower_id():
    noise = np.full(5000, np.uint64(2**63 + 12345))
    z = np.full(5000, -20.0, np.float32)
    z[[40, 70, 4000]] = 3.0
    assert Sampling().race(z, noise) == 40
    z[[1234, 2345]] = -10.0
    noise[[1234, 2345]] = np.uint64(2**64 - 1)
    assert Sampling().race(z, noise) == full_race(Sampling().distribution(z), noise) == 1234


@pytest.mark.parametrize(("likely", "lucky"), [(4000, 10), (10, 4000)])
def test_a_likely_token_and_a_lucky_one_that_tie_fall_to_the_lower_id(likely, lucky, monkeypatch):
    p, noise = np.full(5000, 1e-9), np.zeros(5000, np.uint64)
    p[likely], p[lucky] = 1.0, 2.0**-10
    noise[lucky] = np.uint64(2**64 - 1)
    monkeypatch.setattr(sampling, "_exponentials", lambda words: np.where(words > 0, 2.0**-10, 1.0))
    assert race(p, noise) == 10


@settings(deadline=None)
@given(p=st.lists(st.integers(0, 9), min_size=1, max_size=10).filter(any), u=st.floats(0.001, 0.999))
def test_draw_is_the_inverse_of_the_cumulative_sum(p, u):
    token = draw(np.array(p, np.float64), u)
    assert sum(p[:token]) <= u * sum(p) <= sum(p[: token + 1])


@pytest.mark.parametrize("vocabulary_size", [255, 256, 257, 300, 512, 513, 4097, 49_152])
def test_draw_is_that_inverse_where_it_sums_by_blocks(vocabulary_size):
    """Whole numbers, a third of them 0, so that no sum is rounded; blocks without any mass among them."""
    rng = np.random.default_rng(vocabulary_size)
    p = np.maximum(rng.integers(-3, 7, vocabulary_size), 0).astype(np.float64)
    p[200:240] = 0.0
    p[512:1100] = 0.0
    ends = np.cumsum(p)
    for u in (2.0**-53, 1 - 2.0**-53, *rng.random(300)):
        token = draw(p, float(u))
        assert ends[token] - p[token] <= u * ends[-1] < ends[token]


@pytest.mark.parametrize("vocabulary_size", [2, 49_152, 128_256])
@pytest.mark.parametrize("shape", ["flat", "spiky", "tied", "long tail"])
def test_draws_from_large_vocabularies_hit_mass(vocabulary_size, shape):
    rng = np.random.default_rng(5)
    z = {
        "flat": np.zeros(vocabulary_size),
        "spiky": np.where(np.arange(vocabulary_size) == vocabulary_size - 1, 80.0, 0.0),
        "tied": rng.integers(0, 3, vocabulary_size) * 1.0,
        "long tail": rng.normal(size=vocabulary_size) * 12,
    }[shape].astype(np.float32)
    for contract in (Sampling(), Sampling(0.6), Sampling(0.8, 50, 0.95), Sampling(0.0)):
        p = contract.distribution(z)
        assert p.sum() == pytest.approx(1.0, abs=1e-9)
        if 0 < contract.top_k < vocabulary_size:
            assert np.count_nonzero(p) <= contract.top_k
        for u in (2.0**-54, 0.5, 1 - 2.0**-53):
            assert p[draw(p, u)] > 0.0
        assert p[race(p, words(KEY, Role.GUMBEL, 0, vocabulary_size))] > 0.0


def counts(sampler, p, n=12_000):
    return np.bincount([sampler(p, i) for i in range(n)], minlength=p.size)


@pytest.mark.parametrize(
    "p",
    [[0.25] * 4, [0.9, 0.05, 0.03, 0.02], [0.4, 0.1, 0.3, 0.1, 0.1]],
    ids=["flat", "spiky", "mixed"],
)
@pytest.mark.parametrize(
    "sampler",
    [
        lambda p, i: draw(p, uniform(KEY, Role.DRAFT, i)),
        lambda p, i: race(p, words(KEY, Role.GUMBEL, i, p.size)),
    ],
    ids=["draw", "race"],
)
def test_samplers_are_exact(sampler, p):
    expected = np.array(p)
    observed = counts(sampler, expected)
    assert chisquare(observed, expected * observed.sum()).pvalue > 0.001


def test_draw_and_race_take_unnormalised_mass():
    p = np.array([3.0, 0.0, 1.0])
    for i in range(50):
        u, noise = uniform(KEY, Role.DRAFT, i), words(KEY, Role.GUMBEL, i, 3)
        assert draw(p, u) == draw(p / 4, u)
        assert race(p, noise) == race(p / 4, noise)
