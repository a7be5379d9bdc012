"""Noise kept from tree to tree: that of each position, made once, and not more of it than trees reach."""

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed, serving
from uihlm_device.conversation import Conversation
from uihlm_device.trees.noise import Noise
from uihlm_proto.limits import MAX_DRAFTS
from uihlm_proto.randomness import Role, exponentials, session_key
from uihlm_wireless.settings import LinkSettings

V = 32
KEY, OTHER = session_key(0, 0), session_key(0, 1)


def expected(key, position, size=V):
    return exponentials(key, Role.GUMBEL, position, size)


def test_noise_is_that_of_its_key_and_position_whatever_was_asked_before():
    noise, rng = Noise(), np.random.default_rng(0)
    for _ in range(200):
        key = (KEY, OTHER)[int(rng.integers(2))]
        first = int(rng.integers(20))
        noise.begin(key, first)
        for position in rng.integers(first, first + 6, 4).tolist():
            assert np.array_equal(noise.at(position, V), expected(key, position))


def test_a_position_s_noise_is_made_once():
    noise = Noise()
    noise.begin(KEY, 3)
    for position in (3, 4, 5, 4, 3):
        noise.at(position, V)
    noise.begin(KEY, 5)
    noise.at(5, V)
    assert noise.made == 3
    noise.at(6, V)
    assert noise.made == 4


def test_another_conversation_and_another_vocabulary_have_noise_of_their_own():
    noise = Noise()
    noise.begin(KEY, 3)
    noise.at(3, V)
    assert np.array_equal(noise.at(3, 8), expected(KEY, 3, 8))
    noise.begin(OTHER, 3)
    assert np.array_equal(noise.at(3, V), expected(OTHER, 3))


def test_what_lies_before_the_roots_is_let_go():
    noise = Noise()
    for first in range(0, 500, 3):
        noise.begin(KEY, first)
        for position in range(first, first + 10):
            noise.at(position, V)
        assert set(noise._kept) == set(range(first, first + 10))


@pytest.mark.parametrize(("tree", "in_flight"), [(16, 1), (64, 1), (4, 4)])
def test_a_decode_makes_each_position_s_once_and_writes_what_one_that_forgets_writes(monkeypatch, tree, in_flight):
    """Not more than what a tree reaches is kept."""
    x = contextual(V, 1)
    y = mixed(x, contextual(V, 2), 0.35)
    begin, kept, kinds = Noise.begin, [], []

    def note(self, key, first):
        kept.append(len(self._kept))
        begin(self, key, first)

    def forget(self, key, first):
        begin(self, key, 1 << 30)

    with serving(FakeEngine(y, V)) as address:
        for how in (note, forget):
            monkeypatch.setattr(Noise, "begin", how)
            with Bench(address, FakeDrafter(x, V), "coupled", link=LinkSettings(radio=None, rtt_s=0.15)) as device:
                decoder = device.decoder("hlm", 48, tree=tree, in_flight=in_flight)
                records = list(decoder.answer(Conversation(KEY, [5, 6, 7], 3)))
            kinds.append(([record.token for record in records], decoder.trees.grower._noise.made))
    (tokens, made), (forgetful, anew) = kinds
    assert tokens == forgetful
    # No tree reaches beyond the answer's limit: once for each position, at most.
    assert made <= len(tokens) < anew
    assert 0 < max(kept) <= MAX_DRAFTS + 1
