"""What one end encodes the other decodes, bit for bit, and nothing malformed gets through."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uihlm_proto.codecs import CODECS, Judge, codec, id_bit
from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import Role, session_key, uniform, words
from uihlm_proto.sampling import Sampling, draw, race

KEY = session_key(2, 9)
SIZES = [2, 12, 32_000, 49_152, 128_256]
DENSE = ["dense32", "dense16"]


def distribution(vocabulary_size, seed, spread=2.0, sampling=Sampling()):
    z = np.random.default_rng(seed).normal(size=vocabulary_size) * spread
    return sampling.distribution(z.astype(np.float32))


@pytest.mark.parametrize("vocabulary_size", SIZES)
@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("spread", [0.0, 2.0, 15.0], ids=["flat", "usual", "spiky"])
def test_decode_gives_the_very_distribution_the_draft_was_drawn_from(name, vocabulary_size, spread):
    coder = codec(name, vocabulary_size)
    for position in range(3):
        coded = coder.draft(distribution(vocabulary_size, position, spread), KEY, position)
        received = coder.decode(coded.encode())
        assert received.token == coded.token
        assert received.x_hat.tobytes() == coded.x_hat.tobytes()
        assert received.x_hat.sum() == pytest.approx(1.0, abs=1e-12)
        assert coded.token == draw(received.x_hat, uniform(KEY, Role.DRAFT, position))


@settings(deadline=None, max_examples=60)
@given(
    weights=st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1.0)), min_size=2, max_size=300).filter(any),
    position=st.integers(0, 10_000),
    name=st.sampled_from(DENSE),
)
def test_any_distribution_survives_a_dense_codec(weights, position, name):
    x = np.array(weights) / sum(weights)
    coder = codec(name, x.size)
    coded = coder.draft(x, KEY, position)
    received = coder.decode(coded.encode())
    assert (received.token, received.x_hat.tobytes()) == (coded.token, coded.x_hat.tobytes())
    assert np.abs(coded.x_hat - x).max() <= (2e-7 if name == "dense32" else 3e-3)


@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(0.6, 40, 0.9)], ids=["greedy", "filtered"])
@pytest.mark.parametrize("name", DENSE)
def test_filtered_distributions_survive_too(name, sampling):
    coder = codec(name, 49_152)
    coded = coder.draft(distribution(49_152, 1, 4.0, sampling), KEY, 5)
    assert coder.decode(coded.encode()).x_hat.tobytes() == coded.x_hat.tobytes()


@pytest.mark.parametrize("vocabulary_size", SIZES)
def test_coupled_sends_the_winner_of_the_shared_race(vocabulary_size):
    coder = codec("coupled", vocabulary_size)
    x = distribution(vocabulary_size, 3)
    for position in range(5):
        coded = coder.draft(x, KEY, position)
        assert coded.token == race(x, words(KEY, Role.GUMBEL, position, vocabulary_size))
        received = coder.decode(coded.encode())
        assert (received.token, received.x_hat) == (coded.token, None)
    assert coded.x_hat is x


def test_a_retry_draws_the_same_draft():
    for name in CODECS:
        coder = codec(name, 300)
        first, again = (coder.draft(distribution(300, 8), KEY, 77) for _ in range(2))
        assert (first.token, first.encode()) == (again.token, again.encode())


def test_the_draft_follows_the_quantised_distribution_not_the_exact_one():
    """A mass that float16 cannot hold is never drafted, since the base station would see it as zero."""
    x = np.full(4, 1e-9)
    x[2] = 1 - 3e-9
    assert {codec("dense16", 4).draft(x, KEY, position).token for position in range(200)} == {2}
    x_hat = codec("dense16", 4).draft(x, KEY, 0).x_hat
    assert x_hat[0] == 0.0


@pytest.mark.parametrize(
    ("name", "vocabulary_size", "bits"),
    [
        ("dense32", 32_000, 1_024_000),
        ("dense16", 32_000, 512_000),
        ("dense32", 49_152, 49_152 * 32),
        ("dense16", 49_152, 49_152 * 16),
    ],
)
def test_dense_model_bits_are_the_papers(name, vocabulary_size, bits):
    coder = codec(name, vocabulary_size)
    assert coder.model_bit(1, 7, None) == bits
    assert coder.model_bit(3, 7, None) == 3 * bits
    assert coder.model_bit(0, 7, None) == 0


def test_b_prob_bills_dense_codecs_and_leaves_coupled_alone():
    assert codec("dense32", 32_000).model_bit(1, 0, 16) == 512_000
    assert codec("dense16", 32_000).model_bit(2, 0, 32) == 2_048_000
    assert codec("coupled", 32_000).model_bit(1, 16, 32) == 16
    assert codec("coupled", 32_000).model_bit(4, 80, None) == 80


@pytest.mark.parametrize(
    ("vocabulary_size", "bits"), [(2, 1), (12, 4), (256, 8), (257, 9), (32_000, 15), (49_152, 16), (128_256, 17)]
)
def test_an_id_has_as_few_bits_as_it_can(vocabulary_size, bits):
    assert id_bit(vocabulary_size) == bits == math.ceil(math.log2(vocabulary_size))
    assert codec("coupled", vocabulary_size).max_payload_bytes == math.ceil(bits / 8)


@pytest.mark.parametrize("vocabulary_size", SIZES)
@pytest.mark.parametrize(("name", "width"), [("dense32", 4), ("dense16", 2), ("coupled", 0)])
def test_payloads_have_the_size_the_codec_says(name, width, vocabulary_size):
    coder = codec(name, vocabulary_size)
    payload = coder.draft(distribution(vocabulary_size, 4), KEY, 1).encode()
    id_bytes = math.ceil(id_bit(vocabulary_size) / 8)
    assert len(payload) == coder.max_payload_bytes == id_bytes + width * vocabulary_size


def test_codecs_name_their_judge():
    assert {name: codec(name, 5).judge for name in CODECS} == {
        "dense32": Judge.RESIDUAL,
        "dense16": Judge.RESIDUAL,
        "lattice": Judge.RESIDUAL,
        "coupled": Judge.COUPLED,
    }
    assert all(codec(name, 5).name.partition(":")[0] == name for name in CODECS)


def test_an_unknown_codec_lists_the_known_ones():
    with pytest.raises(
        InvalidRequestError, match="unknown codec 'zip': this end knows coupled, dense16, dense32, lattice"
    ):
        codec("zip", 5)


def dense_payload(name, x, token=0):
    dtype = {"dense32": "<f4", "dense16": "<f2"}[name]
    return bytes([token]) + np.asarray(x, dtype).tobytes()


def test_the_wire_is_little_endian():
    received = codec("dense32", 300).decode(b"\x2b\x01" + np.full(300, 1 / 300, "<f4").tobytes())
    assert received.token == 299
    assert codec("coupled", 300).decode(b"\x2b\x01").token == 299


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        ([math.nan, 0.5, 0.5], "not finite"),
        ([math.inf, 0.5, 0.5], "not finite"),
        ([0.5, -math.inf, 0.5], "not finite"),
        ([math.inf, -math.inf, 0.5], "not finite"),
        ([0.75, 0.5, -0.25], "negative"),
        ([0.0, 0.5, 0.5], "draft 0 has probability 0"),
        ([0.25, 0.25, 0.25], "sums to 0.75, not to 1"),
        ([0.5, 0.5, 0.5], "sums to 1.5, not to 1"),
        ([0.0, 0.0, 0.0], "sums to 0, not to 1"),
    ],
)
def test_what_is_no_distribution_is_refused_in_a_sentence(name, x, sentence):
    with pytest.raises(InvalidRequestError, match=sentence):
        codec(name, 3).decode(dense_payload(name, x))


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [("dense32", 0.9e-4, 1.2e-4), ("dense16", 0.009, 0.012)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_mass_may_miss_1_by_the_tolerance_and_no_more(name, inside, outside, sign):
    coder = codec(name, 2)
    received = coder.decode(dense_payload(name, [0.5, 0.5 + sign * inside]))
    assert received.x_hat.sum() == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(InvalidRequestError, match="not to 1 within"):
        coder.decode(dense_payload(name, [0.5, 0.5 + sign * outside]))


@pytest.mark.parametrize("name", [*DENSE, "coupled"])
@pytest.mark.parametrize("vocabulary_size", [12, 300, 49_152])
def test_a_draft_outside_the_vocabulary_is_refused(name, vocabulary_size):
    coder = codec(name, vocabulary_size)
    id_bytes = math.ceil(id_bit(vocabulary_size) / 8)
    good = coder.draft(distribution(vocabulary_size, 0), KEY, 0).encode()
    for token in (vocabulary_size, 2 ** (8 * id_bytes) - 1):
        with pytest.raises(
            InvalidRequestError, match=f"draft id {token} is outside the vocabulary of {vocabulary_size}"
        ):
            coder.decode(token.to_bytes(id_bytes, "little") + good[id_bytes:])


@pytest.mark.parametrize("name", CODECS)
def test_a_payload_of_another_length_is_refused(name):
    coder = codec(name, 300)
    payload = coder.draft(distribution(300, 0), KEY, 0).encode()
    for wrong in (b"", payload[:1], payload[:-1], payload + b"\0", payload * 2):
        with pytest.raises(InvalidRequestError, match=f"bytes, got {len(wrong)}"):
            coder.decode(wrong)


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(sorted(CODECS)), vocabulary_size=st.sampled_from([2, 5, 12, 300]), data=st.data())
def test_fuzzed_payloads_raise_invalid_request_and_nothing_else(name, vocabulary_size, data):
    coder = codec(name, vocabulary_size)
    size = coder.max_payload_bytes
    good = coder.draft(distribution(vocabulary_size, 6), KEY, 2).encode()
    flips = st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, 255)), min_size=1, max_size=6)
    payload = data.draw(
        st.one_of(
            st.binary(max_size=size + 3),
            st.binary(min_size=size, max_size=size),
            flips.map(lambda edits: bytes(dict(edits).get(i, byte) for i, byte in enumerate(good))),
        )
    )
    try:
        received = coder.decode(payload)
    except InvalidRequestError:
        return
    assert 0 <= received.token < vocabulary_size
    if received.x_hat is not None:
        assert received.x_hat[received.token] > 0.0
        assert (received.x_hat >= 0.0).all()
        assert received.x_hat.sum() == pytest.approx(1.0, abs=1e-12)
