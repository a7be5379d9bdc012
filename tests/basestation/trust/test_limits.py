"""Token buckets and seats, on a clock of the test's own."""

import math

import pytest

from uihlm_basestation.trust.limits import BURST_S, Bucket, Limits, Rates
from uihlm_basestation.trust.peers import Peer, Peers, peer_at
from uihlm_proto.errors import ExhaustedError


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket(10.0, 0.0)
    assert sum(bucket.take(1, 0.0) for _ in range(100)) == 10 * BURST_S
    assert sum(bucket.take(1, 1.0) for _ in range(100)) == 10
    # However long the pause, no more than a burst.
    assert sum(bucket.take(1, 1000.0) for _ in range(100)) == 10 * BURST_S


def test_over_time_a_bucket_gives_no_more_than_its_rate():
    bucket = Bucket(100.0, 0.0)
    taken = sum(bucket.take(1, step / 1000) for step in range(100_000))
    assert 100 * 100 <= taken <= 100 * (100 + BURST_S)


def test_a_message_larger_than_a_bucket_passes_when_it_is_full_and_empties_it():
    bucket = Bucket(10.0, 0.0)
    assert bucket.take(1000, 0.0)
    assert not bucket.take(1, 0.0)
    assert not bucket.take(1000, 1.0)
    assert bucket.take(1000, 1.0 + BURST_S)


def test_a_refused_message_costs_nothing():
    bucket = Bucket(10.0, 0.0)
    assert bucket.take(15, 0.0)
    assert not bucket.take(6, 0.0)
    assert bucket.take(5, 0.0)


@pytest.mark.parametrize(
    ("limits", "n_bytes", "sentence"),
    [
        (
            (3.0, math.inf),
            1,
            r"peer x sends more than 3 messages/s: send less, or serve with a larger --peer-messages-s",
        ),
        ((math.inf, 3.0), 1, r"peer x sends more than 3 bytes/s: send less, or serve with a larger --peer-bytes-s"),
    ],
)
def test_a_rate_exceeded_is_said_with_the_flag_that_sets_it(limits, n_bytes, sentence):
    rates = Rates("peer x", *limits, 0.0, "peer")
    for _ in range(6):
        rates.take(n_bytes, 0.0)
    with pytest.raises(ExhaustedError, match=sentence):
        rates.take(n_bytes, 0.0)


def test_without_limits_anything_passes():
    rates = Rates("x", math.inf, math.inf, 0.0, "peer")
    bounded = Rates("x", 500.0, math.inf, 0.0, "peer")
    for _ in range(1000):
        rates.take(10**9, 0.0)
        bounded.take(10**9, 0.0)
    # One more is one too many only where there is a limit.
    rates.take(10**9, 0.0)
    with pytest.raises(ExhaustedError):
        bounded.take(10**9, 0.0)
    assert not rates.bounded and rates.are_full(0.0), "nothing is accounted for where nothing is limited"


def test_a_peer_has_so_many_seats_and_a_neighbour_its_own():
    peers = Peers(Limits(peer_sessions=2))
    bad, good = Peer("bad"), Peer("good")
    peers.enter(bad, 0.0), peers.enter(bad, 0.0)
    with pytest.raises(ExhaustedError, match=r"peer bad has 2 sessions open, as many as it may: .* --peer-sessions"):
        peers.enter(bad, 0.0)
    peers.enter(good, 0.0)
    peers.leave(bad, 0.0)
    peers.enter(bad, 0.0)


def test_reconnecting_does_not_fill_the_bucket_again():
    peers = Peers(Limits(peer_messages_s=1.0))
    peer = Peer("x")
    rates = peers.enter(peer, 0.0)
    rates.take(1, 0.0), rates.take(1, 0.0)
    peers.leave(peer, 0.0)
    with pytest.raises(ExhaustedError):
        peers.enter(peer, 0.0).take(1, 0.0)


def test_peers_that_owe_nothing_are_forgotten_and_a_flood_of_those_that_do_is_bounded():
    peers = Peers(Limits(peer_messages_s=1.0))
    for number in range(12_000):
        peer = Peer(str(number))
        rates = peers.enter(peer, 0.0)
        if number % 2:
            rates.take(1, 0.0)
        peers.leave(peer, 0.0)
    assert len(peers) == 6_000
    for number in range(12_000, 36_000):
        peers.enter(Peer(str(number)), 0.0).take(1, 0.0)
        peers.leave(Peer(str(number)), 0.0)
    assert len(peers) == 10_000


def test_this_machine_is_nobody_in_particular():
    peers = Peers(Limits(peer_sessions=1, peer_messages_s=1.0))
    for at in ("ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5001", "unix:"):
        peer = peer_at(at)
        assert [peers.enter(peer, 0.0) for _ in range(10)] == [None] * 10
    assert len(peers) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ipv4:192.0.2.7:5000", "ipv4:192.0.2.7:6000", True),
        ("ipv4:192.0.2.7:5000", "ipv4:192.0.2.8:5000", False),
        # One line of an end customer has 2^64 addresses.
        ("ipv6:%5B2001:db8::7%5D:1", "ipv6:%5B2001:db8::dead:beef%5D:2", True),
        ("ipv6:%5B2001:db8::7%5D:1", "ipv6:%5B2001:db8:0:1::7%5D:1", False),
    ],
)
def test_a_peer_is_where_it_comes_from(one, other, same):
    assert (peer_at(one) == peer_at(other)) is same
    assert peer_at(one).limited
