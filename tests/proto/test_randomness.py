"""The shared noise is Philox4x64-10 where the module says it is: bit for bit, and addressable."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uihlm_proto import randomness
from uihlm_proto.randomness import KEY_BYTES, Draws, Role, exponentials, session_key, uniform, uniforms, words
from uihlm_proto.sampling import draw, race

MASK = (1 << 64) - 1
KEY = session_key(0, 0)


def philox4x64_10(counter, key):
    """Philox4x64-10 of Salmon et al. (SC 2011) on Python integers, independent of NumPy."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (b >> 64) ^ c1 ^ k0, b & MASK, (a >> 64) ^ c3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [c0, c1, c2, c3]


def word(key, role, position, index):
    """One word by the formula of the module's docstring, from its own block alone."""
    halves = [int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")]
    return philox4x64_10([index // 4 + 1, position, int(role), 0], halves)[index % 4]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        ([MASK] * 4, [MASK] * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
        (
            [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
            [0x452821E638D01377, 0xBE5466CF34E90C6C],
            "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_reference_gives_the_known_answers_of_random123(counter, key, expected):
    assert philox4x64_10(counter, key) == [int(w, 16) for w in expected.split()]


@settings(max_examples=100, deadline=None)
@given(
    key=st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES),
    role=st.sampled_from(Role),
    position=st.integers(0, MASK),
    count=st.integers(1, 11),
)
def test_words_equal_the_reference(key, role, position, count):
    assert [int(w) for w in words(key, role, position, count)] == [word(key, role, position, i) for i in range(count)]


@pytest.mark.parametrize("index", [0, 1, 4, 7, 4095, 49_151, 128_255])
def test_one_index_can_be_had_from_its_block_alone(index):
    assert int(words(KEY, Role.GUMBEL, 9, 128_256)[index]) == word(KEY, Role.GUMBEL, 9, index)


def test_golden_words():
    assert KEY.hex() == "6d8c67dac503e3261d4951c7e9074fd7"
    assert session_key(7, 41).hex() == "3bfdaaa78c98b7c9748c0f7650a5a282"
    assert session_key(-1, 0).hex() == "5da26981f866bab6dcd15c3bff0ed65d"
    assert [hex(int(w)) for w in words(KEY, Role.DRAFT, 0, 5)] == [
        "0x1250e3a847a2161f",
        "0xf9607378bef0cc4f",
        "0xb1179d8456f058a",
        "0xde2f6768f2af4d58",
        "0xb73500fd7485734",
    ]
    assert [hex(int(w)) for w in words(KEY, Role.GUMBEL, 123_456, 6)] == [
        "0xde1f404653f5489",
        "0xddba796033af9205",
        "0xe2dd6f79b24702e3",
        "0x7b38438df6193e8b",
        "0xd1108dd9061cbf6",
        "0xd4fc47511a9fed45",
    ]
    assert [hex(int(w)) for w in words(KEY, Role.THIN, 2**40, 2)] == ["0xd09d0ebc65582977", "0xe8e77ba10b039507"]


def test_golden_uniforms():
    assert uniforms(KEY, Role.DRAFT, 0, 3) == pytest.approx(
        [0.07154677256006209, 0.9741279763974859, 0.04323541193064889], rel=0, abs=3e-16
    )
    assert uniform(KEY, Role.ACCEPT, 7) == pytest.approx(0.043387546329501425, rel=0, abs=3e-16)
    assert exponentials(KEY, Role.GUMBEL, 3, 3) == pytest.approx(
        [0.6386671237996102, 0.3278296937996894, 0.7622038192232032], rel=1e-14
    )


def test_role_numbers_are_those_of_the_protocol():
    assert {role.name: int(role) for role in Role} == {
        "DRAFT": 1,
        "ACCEPT": 2,
        "RESIDUAL": 3,
        "BONUS": 4,
        "GUMBEL": 5,
        "MONTE_CARLO": 6,
        "THIN": 7,
        "FADING": 8,
    }


def test_a_uniform_is_its_word_over_two_to_the_64():
    exact = np.array([int(w) / 2**64 for w in words(KEY, Role.ACCEPT, 5, 1000)])
    assert np.abs(uniforms(KEY, Role.ACCEPT, 5, 1000) - exact).max() <= 2.0**-52
    assert uniform(KEY, Role.ACCEPT, 5) == uniforms(KEY, Role.ACCEPT, 5, 1)[0]


@pytest.fixture
def extreme_words(request, monkeypatch):
    """Every word is the smallest or the largest there is; nothing made before or then is remembered."""
    made = np.full(9, request.param, np.uint64)
    monkeypatch.setattr(randomness, "_made", lambda key, role, position, count: made[:count])
    randomness._run.cache_clear()
    yield
    randomness._run.cache_clear()


EXTREMES = pytest.mark.parametrize("extreme_words", [0, MASK], ids=["smallest word", "largest word"], indirect=True)


@EXTREMES
def test_no_word_gives_exactly_0_or_1(extreme_words):
    assert 0.0 < uniform(KEY, Role.ACCEPT, 0) < 1.0
    assert 0.0 < uniforms(KEY, Role.ACCEPT, 0, 3)[0] < 1.0
    noise = exponentials(KEY, Role.GUMBEL, 0, 3)
    assert np.isfinite(noise).all() and (noise > 0.0).all()


@EXTREMES
def test_no_word_draws_a_token_of_zero_mass(extreme_words):
    p = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    assert p[draw(p, uniform(KEY, Role.DRAFT, 0))] > 0.0
    assert p[race(p, words(KEY, Role.GUMBEL, 0, 5))] > 0.0


@pytest.mark.parametrize("position", [0, 15, 16, 17, 1000, MASK - 16, MASK])
def test_a_uniform_is_that_of_its_position_wherever_its_run_begins(position):
    key = session_key(3, position % 97)
    for role in (Role.ACCEPT, Role.RESIDUAL, Role.DRAFT):
        assert uniform(key, role, position) == uniforms(key, role, position, 1)[0]


def test_uniforms_of_many_sessions_are_remembered_and_not_of_all(monkeypatch):
    randomness._run.cache_clear()
    for prompt in range(randomness._RUNS + 20):
        uniform(session_key(0, prompt), Role.DRAFT, 5)
    assert randomness._run.cache_info().currsize == randomness._RUNS
    made = []
    monkeypatch.setattr(randomness, "_made", lambda *place: made.append(place))
    assert 0.0 < uniform(session_key(0, 100), Role.DRAFT, 14) < 1.0 and not made


def test_uniforms_are_uniform():
    from scipy.stats import kstest

    sample = np.concatenate([uniforms(session_key(4, i), Role.ACCEPT, i, 500) for i in range(40)])
    assert kstest(sample, "uniform").pvalue > 0.01


def test_exponentials_are_minus_log_of_the_uniforms():
    u = uniforms(KEY, Role.GUMBEL, 4, 7)
    assert exponentials(KEY, Role.GUMBEL, 4, 7) == pytest.approx([-math.log(v) for v in u], rel=1e-15)


def test_a_longer_draw_begins_with_the_shorter_one():
    assert words(KEY, Role.GUMBEL, 1, 100)[:7].tolist() == words(KEY, Role.GUMBEL, 1, 7).tolist()


def test_every_address_has_its_own_noise():
    addresses = [
        (session_key(seed, prompt), role, position)
        for seed in (0, 1)
        for prompt in (0, 1)
        for role in Role
        for position in (0, 1, 2)
    ]
    drawn = {int(w) for key, role, position in addresses for w in words(key, role, position, 8)}
    assert len(drawn) == 8 * len(addresses)


def test_two_prompts_and_two_seeds_have_different_keys():
    keys = {session_key(seed, prompt) for seed in range(-5, 20) for prompt in range(50)}
    assert len(keys) == 25 * 50
    assert all(len(key) == KEY_BYTES for key in keys)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_key_of_the_wrong_length_is_refused(size):
    with pytest.raises(ValueError, match=f"16 bytes, got {size}"):
        words(bytes(size), Role.DRAFT, 0, 1)


def test_the_words_of_a_race_are_made_once_for_both_ends():
    """And nobody can change them under the other's eyes."""
    first = words(KEY, Role.GUMBEL, 5, 2000)
    assert words(bytes(bytearray(KEY)), Role.GUMBEL, 5, 2000) is first
    assert first.tolist() == randomness._made(KEY, Role.GUMBEL, 5, 2000).tolist()
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    for other in ((session_key(0, 1), Role.GUMBEL, 5), (KEY, Role.BONUS, 5), (KEY, Role.GUMBEL, 6)):
        assert words(*other, 2000)[:9].tolist() == words(*other, 9).tolist() != first[:9].tolist()
    assert words(KEY, Role.GUMBEL, 5, 1999).tolist() == first[:1999].tolist()


def test_few_words_are_made_anew_and_of_races_only_the_last_are_kept():
    assert words(KEY, Role.GUMBEL, 5, 1023) is not words(KEY, Role.GUMBEL, 5, 1023)
    first = words(KEY, Role.GUMBEL, 5, 2000)
    for position in range(6, 40):
        words(KEY, Role.GUMBEL, position, 2000)
    assert randomness._many.cache_info().currsize <= 8
    again = words(KEY, Role.GUMBEL, 5, 2000)
    assert again is not first and (again == first).all()


def test_draws_made_ahead_are_the_draws_of_that_place_and_no_other():
    draws = Draws(KEY)
    draws.prepare(Role.GUMBEL, 7, 9)
    for role, position in itertools.product((Role.GUMBEL, Role.ACCEPT, Role.RESIDUAL), (6, 7, 8)):
        for count in (1, 9, 12):
            assert draws.words(role, position, count).tolist() == words(KEY, role, position, count).tolist()
        assert draws.uniform(role, position) == uniform(KEY, role, position)


def test_draws_made_ahead_are_kept_for_the_latest_place_alone():
    draws = Draws(KEY)
    for position in range(50):
        draws.prepare(Role.GUMBEL, position, 4)
    assert draws._ahead[:2] == (Role.GUMBEL, 49)
