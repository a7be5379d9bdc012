"""A replayed link: bits are conserved, parts equal the whole, and both kinds of file agree."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_wireless.fading import OutageError
from uihlm_wireless.trace import NS, Replay, Trace, TraceEnd, start_ns

MS = 1_000_000
LOOP, ONCE = TraceEnd.LOOP, TraceEnd.ONCE
PACKET_BIT = 12_032.0


def rates(*pairs):
    """A trace of (seconds, bit/s)."""
    at_s, bit_s = zip(*pairs, strict=True)
    return Trace.of_rates(np.array([round(t * NS) for t in at_s]), np.array(bit_s, dtype=np.float64))


def packets(*at_ms):
    return Trace.of_opportunities(np.array(at_ms) * MS, PACKET_BIT)


def replay(trace, end=LOOP, start=0, opened_at=0.0, devices=1):
    return Replay(trace, end, start, opened_at, devices)


@st.composite
def traces(draw):
    """Traces of both kinds that carry something."""
    steps_ns = draw(st.lists(st.integers(1, 3 * NS), min_size=1, max_size=12))
    if draw(st.booleans()):
        at_ms = np.cumsum([step % 50 for step in steps_ns])
        assume(at_ms[-1] > 0)
        return packets(*at_ms)
    carried = draw(
        st.lists(st.sampled_from([0.0, 1.0, 900.0, 1e5, 3e7]), min_size=len(steps_ns), max_size=len(steps_ns))
    )
    assume(any(carried))
    return Trace.of_rates(np.cumsum(steps_ns), np.array(carried))


BITS = st.lists(st.integers(1, 200_000), min_size=1, max_size=6)


# Rates


def test_a_message_takes_the_integral_of_the_rate():
    trace = rates((0, 1000), (1, 0), (3, 500))
    assert trace.length_s == 5.0
    assert trace.mean_rate_bit_s == pytest.approx(2000 / 5)
    assert replay(trace).airtime_s(1000, 0.0) == pytest.approx(1.0)
    assert replay(trace).airtime_s(1001, 0.0) == pytest.approx(3.002)
    assert replay(trace).airtime_s(1000, 0.75) == pytest.approx(3.75)
    # 250 + 1000 + a whole loop and 250 more.
    assert replay(trace).airtime_s(250 + 1000 + 2000 + 250, 0.75) == pytest.approx(4.25 + 5 + 0.25)


def test_times_count_from_the_first_line_and_from_the_open():
    trace = rates((100, 1000), (101, 10))
    assert replay(trace, opened_at=7.0).airtime_s(500, 7.5) == pytest.approx(0.5)
    assert replay(trace, opened_at=7.0).airtime_s(10, 8.0) == pytest.approx(1.0)
    assert replay(trace, start=NS).airtime_s(10, 0.0) == pytest.approx(1.0)


def test_a_single_rate_holds_for_ever():
    trace = rates((3, 1000))
    assert replay(trace).airtime_s(10_000, 0.5) == pytest.approx(10.0)


def test_devices_share_what_there_is():
    assert replay(rates((0, 1000)), devices=4).airtime_s(100, 0.0) == pytest.approx(0.4)


# Packets


def test_an_opportunity_carries_one_packet_and_is_lost_where_nothing_is_sent():
    trace = packets(2, 5, 5, 9)
    assert replay(trace).airtime_s(1, 0.0) == pytest.approx(0.002)
    assert replay(trace).airtime_s(12_032, 0.0) == pytest.approx(0.002)
    assert replay(trace).airtime_s(12_033, 0.0) == pytest.approx(0.005)
    assert replay(trace).airtime_s(3 * 12_032, 0.0) == pytest.approx(0.005)
    assert replay(trace).airtime_s(1, 0.006) == pytest.approx(0.003)
    # Begun at the very time of an opportunity it comes too late for it; after the last one comes the first again.
    assert replay(trace).airtime_s(1, 0.002) == pytest.approx(0.003)
    assert replay(trace).airtime_s(1, 0.009) == pytest.approx(0.002)


def test_messages_in_a_queue_share_an_opportunity_and_later_ones_do_not():
    link = replay(packets(2, 5, 9))
    assert link.airtime_s(6_000, 0.0) == pytest.approx(0.002)
    assert link.airtime_s(6_000, 0.002) == 0.0
    assert link.airtime_s(6_000, 0.002) == pytest.approx(0.003)
    assert link.airtime_s(6_000, 0.0051) == pytest.approx(0.0039)


def drained(at_ms, messages):
    """When each (arrival in ms, bits) is through a FIFO queue that every opportunity drains by a packet, in order."""
    waiting, ends, begun_ms = [list(message) for message in messages], [], 0
    while waiting:
        for at in at_ms:
            now, room = begun_ms + at, PACKET_BIT
            while room > 0 and waiting and waiting[0][0] < now:
                sent = min(room, waiting[0][1])
                room -= sent
                waiting[0][1] -= sent
                if not waiting[0][1]:
                    ends.append(now)
                    waiting.pop(0)
        begun_ms += at_ms[-1]
    return ends


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60_000)), min_size=1, max_size=6),
)
def test_packets_leave_as_mahimahi_drains_its_queue(steps_ms, arrivals):
    at_ms = [int(at) for at in np.cumsum(steps_ms)]
    assume(at_ms[-1] > 0)
    # Half a millisecond off the opportunities: a tie is nobody's.
    messages = sorted((arrival + 0.5, bit) for arrival, bit in arrivals)
    link, free_at, ends = replay(packets(*at_ms)), 0.0, []
    for arrival_ms, bit in messages:
        begins_at = max(arrival_ms / 1000, free_at)
        free_at = begins_at + link.airtime_s(bit, begins_at)
        ends.append(free_at * 1000)
    assert ends == pytest.approx(drained(at_ms, messages), abs=1e-5)


# Both


@given(traces(), BITS, st.integers(0, 40 * NS))
def test_parts_in_a_queue_end_where_the_whole_does(trace, parts, begin_ns):
    begins_at = begin_ns / NS
    whole_s = replay(trace).airtime_s(sum(parts), begins_at)
    queue, at = replay(trace), begins_at
    for bit in parts:
        at += queue.airtime_s(bit, at)
    assert at - begins_at == pytest.approx(whole_s, rel=1e-9, abs=5e-9)


@given(traces(), st.integers(1, 500_000), st.integers(0, 40 * NS))
def test_what_was_offered_meanwhile_is_what_was_sent(trace, bit, begin_ns):
    end_ns = begin_ns + replay(trace).airtime_s(bit, begin_ns / NS) * NS
    before = trace.offered_until(begin_ns, LOOP)
    assert trace.offered_until(round(end_ns) - 2, LOOP) - before <= bit * (1 + 1e-9) + 1
    assert trace.offered_until(round(end_ns) + 2, LOOP) - before >= bit * (1 - 1e-9) - 1


@given(traces(), BITS)
def test_a_later_begin_is_never_through_earlier(trace, begins_ms):
    ends = [begin / 1000 + replay(trace).airtime_s(5_000, begin / 1000) for begin in sorted(begins_ms)]
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(ends))


@given(st.integers(1, 40), st.lists(st.integers(1, 100), min_size=1, max_size=5), st.integers(0, 10_000))
def test_a_csv_and_packets_of_one_rate_agree(every_ms, counts, begin_ms):
    steady = rates((0, PACKET_BIT * 1000 / every_ms))
    for count in counts:
        bit = int(count * PACKET_BIT)
        fluid_s = replay(steady).airtime_s(bit, begin_ms / 1000)
        packet_s = replay(packets(every_ms)).airtime_s(bit, begin_ms / 1000)
        # Between two opportunities the first packet's wait is cut short by what has passed since the last one.
        assert packet_s == pytest.approx(fluid_s - begin_ms % every_ms / 1000, abs=1e-8)


# The end, and the start


def test_after_the_end_nothing_is_carried():
    trace = rates((0, 1000), (1, 1000))
    assert replay(trace, ONCE).airtime_s(2000, 0.0) == pytest.approx(2.0)
    assert replay(trace, ONCE).airtime_s(0, 9.0) == 0.0
    for bit, at in ((2001, 0.0), (1001, 1.0), (1, 2.0), (1, 99.0)):
        with pytest.raises(OutageError, match=f"ends 2 s after .* message of {bit} bits"):
            replay(trace, ONCE).airtime_s(bit, at)


def test_places_are_drawn_by_seed_and_prompt_and_fill_the_trace():
    trace = rates((0, 1000), (5, 1000))
    places = [start_ns(trace, LOOP, 7, session_key(0, prompt)) for prompt in range(400)]
    assert places == [start_ns(trace, LOOP, 7, session_key(0, prompt)) for prompt in range(400)]
    assert len(set(places)) == 400
    assert 0 <= min(places) < 0.1 * NS < 9.9 * NS < max(places) < 10 * NS
    assert np.mean(places) == pytest.approx(5 * NS, rel=0.06)
    assert start_ns(trace, LOOP, 8, session_key(0, 0)) != places[0]
    assert start_ns(trace, ONCE, 7, session_key(0, 0)) == 0


def test_negative_bits_are_refused():
    with pytest.raises(InvalidRequestError, match="-1 bits"):
        replay(rates((0, 1000))).airtime_s(-1, 0.0)
