"""The timeline of a link, by hand."""

import math

import pytest

from uihlm_proto.errors import ProtocolError
from uihlm_proto.randomness import session_key
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.clock import EnforcedClock, SimulatedClock
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.link import Link
from uihlm_wireless.settings import AirtimeBasis, LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

# 0 dB at 1 kHz: 1000 bit/s exactly.
RADIO = RadioLink(bandwidth_hz=1000.0, transmit_power_dbm=0.0, noise_dbm=0.0, distance_m=1.0)
KEY = session_key(0, 0)


def open_link(clock=None, timing=None, **settings):
    """A link whose session was opened at 0 as round 1."""
    link = Link(LinkSettings(radio=RADIO, **settings), clock or SimulatedClock(), timing or TimingProfile())
    return link.open(1, 0.0, 25, KEY)


def upload(session, round_, now, bit=1000):
    return session.upload(round_, now, bit, bit, 50)


def verdict_at(session, round_, forward_s=0.0, queue_s=0.0, **more):
    return session.verdict(round_, 25, forward_s, queue_s, **more)[0]


def test_a_lone_upload_follows_the_stated_sum():
    """now + grant + airtime + RTT + forward + downlink."""
    session = open_link(rtt_s=0.2, grant_delay_s=0.03, downlink=RADIO)
    assert session.ready(1, 25, 0.0)[0] == pytest.approx(0.2 + 0.2)
    assert upload(session, 2, now=5.0) == pytest.approx(5.0 + 0.03 + 1.0 + 0.1)
    at, bill = session.verdict(2, 25, forward_s=0.5)
    assert at == pytest.approx(5.0 + 0.03 + 1.0 + 0.2 + 0.5 + 0.2)
    assert (bill.link_s, bill.downlink_s, bill.forward_s) == pytest.approx((0.2, 0.2, 0.5))
    sent = session.request_bill
    assert (sent.wait_s, sent.grant_s, sent.airtime_s, sent.rtt_s) == pytest.approx((0.0, 0.03, 1.0, 0.2))
    assert sent.plus(bill).link_s == pytest.approx(0.03 + 1.0 + 0.2 + 0.2)
    assert (sent.model_bit, sent.payload_bit, sent.uplink_wire_bytes, bill.downlink_wire_bytes) == (1000, 1000, 50, 25)


def test_open_costs_one_round_trip_and_no_model_bits():
    session = open_link(rtt_s=0.2, grant_delay_s=0.03)
    bill = session.request_bill
    assert (bill.round, bill.model_bit, bill.airtime_s, bill.grant_s, bill.link_s) == (1, 0, 0.0, 0.0, 0.2)
    assert upload(session, 2, now=0.05) == pytest.approx(0.2 + 0.03 + 1.0 + 0.1)


def test_the_bill_of_a_waiting_loop_does_not_know_how_long_the_device_took():
    bills = []
    for now in (0.0, 0.05, 0.2, 7.3):
        session = open_link(rtt_s=0.2, grant_delay_s=0.03, airtime=AirtimeBasis.WIRE)
        upload(session, 2, now)
        bills.append(session.request_bill)
    assert bills.count(bills[0]) == 4


def test_the_prefill_overlaps_the_devices_own():
    """The upload reaches the base station while it still prefills: only the rest of the prefill is waited for."""
    session = open_link(rtt_s=0.2)
    assert session.ready(1, 25, forward_s=3.0)[0] == pytest.approx(0.1 + 3.0 + 0.1)
    assert upload(session, 2, now=1.0) == pytest.approx(2.1)
    assert verdict_at(session, 2, 0.5) == pytest.approx(3.1 + 0.5 + 0.1)


def test_a_prefill_that_is_done_delays_nothing():
    session = open_link(rtt_s=0.2)
    session.ready(1, 25, forward_s=0.3)
    upload(session, 2, now=1.0)
    assert verdict_at(session, 2, 0.5) == pytest.approx(2.1 + 0.5 + 0.1)


def test_a_forward_that_ran_on_begins_with_the_answer_before():
    session = open_link(rtt_s=0.2)
    session.ready(1, 25, forward_s=0.0)
    upload(session, 2, now=0.2)
    # The row was at hand: the verdict leaves at its upload's arrival.
    assert verdict_at(session, 2, positions=0) == pytest.approx(1.3 + 0.1)
    upload(session, 3, now=1.5)
    # Begun at 1.3 and 2.6 s long; the upload was there at 2.6.
    assert verdict_at(session, 3, 2.6, ran_on=True) == pytest.approx(3.9 + 0.1)
    upload(session, 4, now=4.0)
    # Through at 4.4, and the upload arrives at 5.1.
    assert verdict_at(session, 4, 0.5, ran_on=True) == pytest.approx(5.1 + 0.1)
    upload(session, 5, now=5.2)
    assert verdict_at(session, 5, 0.5) == pytest.approx(6.3 + 0.5 + 0.1)


@pytest.mark.parametrize("ran_on", [False, True])
def test_a_stale_upload_is_answered_as_it_arrives_and_delays_nothing(ran_on):
    session = open_link(rtt_s=0.2)
    session.ready(1, 25, forward_s=0.0)
    upload(session, 2, now=0.2)
    assert verdict_at(session, 2, positions=0) == pytest.approx(1.3 + 0.1)
    # Sent before that correction was known.
    upload(session, 3, now=0.3)
    assert verdict_at(session, 3, positions=0, stale=True) == pytest.approx(2.3 + 0.1)
    upload(session, 4, now=1.5)
    # The forward of 2.5 s began with the correction, at 1.3, or begins as the upload is there, at 3.3.
    assert verdict_at(session, 4, 2.5, ran_on=ran_on) == pytest.approx((3.8 if ran_on else 5.8) + 0.1)


def test_what_ran_on_waits_for_the_engine_where_time_is_real():
    for clock, waited_s in ((SimulatedClock(), 0.0), (EnforcedClock(), 3.0)):
        session = open_link(clock)
        session.ready(1, 25, forward_s=0.0)
        upload(session, 2, now=0.0)
        assert verdict_at(session, 2, 2.0, 3.0, ran_on=True) == pytest.approx(max(1.0, 2.0 + waited_s))


def test_the_grant_is_paid_only_where_the_link_is_idle():
    session = open_link(grant_delay_s=0.5, rtt_s=0.2)
    assert upload(session, 2, now=1.0) == pytest.approx(1.0 + 0.5 + 1.0 + 0.1)
    # Made while the first is on the air: waits for it, asks for no grant.
    assert upload(session, 3, now=1.2) == pytest.approx(2.5 + 1.0 + 0.1)
    bill = session.request_bill
    assert (bill.wait_s, bill.grant_s) == pytest.approx((1.3, 0.0))
    assert bill.link_s == pytest.approx(1.3 + 1.0 + 0.2)
    # The link has just gone idle.
    assert upload(session, 4, now=3.5) == pytest.approx(3.5 + 0.5 + 1.0 + 0.1)


def test_the_round_trip_is_pipelined():
    """Two uploads back to back: their verdicts are one airtime apart, not one round trip."""
    session = open_link(rtt_s=10.0)
    session.ready(1, 25, 0.0)
    upload(session, 2, now=20.0)
    upload(session, 3, now=20.0)
    assert verdict_at(session, 2) == pytest.approx(31.0)
    assert verdict_at(session, 3) == pytest.approx(32.0)


def test_forwards_of_a_session_follow_each_other():
    session = open_link()
    upload(session, 2, now=0.0)
    upload(session, 3, now=0.0)
    assert verdict_at(session, 2, forward_s=5.0) == pytest.approx(6.0)
    assert verdict_at(session, 3, forward_s=5.0) == pytest.approx(11.0)


def test_generate_pays_grant_and_round_trip_once():
    session = open_link(rtt_s=0.2, grant_delay_s=0.03)
    session.ready(1, 25, 0.0)
    upload(session, 2, now=1.0, bit=0)
    answers = [session.verdict(2, 25, forward_s=0.5) for _ in range(3)]
    assert [at for at, _ in answers] == pytest.approx([1.0 + 0.03 + 0.2 + n * 0.5 for n in (1, 2, 3)])
    assert session.request_bill.link_s == pytest.approx(0.23)
    assert [bill.link_s for _, bill in answers] == [0.0, 0.0, 0.0]
    assert [bill.reached_at for _, bill in answers] == [at for at, _ in answers]


@pytest.mark.parametrize(
    ("timing", "first_s", "further_s"), [(TimingProfile(), 0.5, 0.3), (TimingProfile(None, 2.0, 0.1), 2.2, 2.0)]
)
def test_tokens_that_come_together_take_the_forwards_that_made_them(timing, first_s, further_s):
    """Three forwards, the first over three positions: charged as they would be one by one, but for the downlink."""
    together, apart = (open_link(timing=timing, rtt_s=0.2, downlink=RADIO) for _ in range(2))
    for session in (together, apart):
        session.ready(1, 25, 0.0)
        upload(session, 2, now=10.0, bit=0)
    answers = [apart.verdict(2, 25, 0.5, positions=3), apart.verdict(2, 25, 0.3), apart.verdict(2, 25, 0.3)]
    reached_at, bill = together.verdict(2, 25, 0.5 + 2 * 0.3, positions=5, further=2)
    assert bill.forward_s == pytest.approx(first_s + 2 * further_s)
    assert bill.forward_s == pytest.approx(sum(one.forward_s for _, one in answers))
    assert reached_at == pytest.approx(answers[-1][0])
    assert 3 * bill.downlink_s == pytest.approx(sum(one.downlink_s for _, one in answers))


def test_answers_share_the_downlink():
    session = open_link(downlink=RADIO)  # 25 bytes: 0.2 s
    session.ready(1, 25, 0.0)
    upload(session, 2, now=1.0, bit=0)
    assert [verdict_at(session, 2, 0.05) for _ in range(3)] == pytest.approx([1.25, 1.45, 1.65])


def test_airtime_on_the_wire_counts_every_byte_and_open_too():
    session = open_link(rtt_s=0.1, airtime=AirtimeBasis.WIRE)
    assert session.request_bill.airtime_s == pytest.approx(25 * 8 / 1000)
    assert session.request_bill.link_s == pytest.approx(0.2 + 0.1)
    assert upload(session, 2, now=0.0) == pytest.approx(0.3 + 50 * 8 / 1000 + 0.05)


def test_the_link_stays_busy_across_sessions():
    link = Link(LinkSettings(radio=RADIO), SimulatedClock())
    upload(link.open(1, 0.0, 25, KEY), 2, now=0.0)
    assert upload(link.open(3, 0.5, 25, session_key(0, 1)), 4, now=0.5) == pytest.approx(2.0)


def test_a_fixed_forward_overrides_the_measured_one_but_where_nothing_ran_there_is_none():
    session = open_link(timing=TimingProfile(forward_s=2.0))
    session.ready(1, 25, 0.3)
    upload(session, 2, now=10.0)
    assert verdict_at(session, 2, forward_s=0.3) == pytest.approx(13.0)
    upload(session, 3, now=20.0)
    assert verdict_at(session, 3, forward_s=0.0, positions=0) == pytest.approx(21.0)


@pytest.mark.parametrize(("clock", "expected"), [(SimulatedClock(), 1.5), (EnforcedClock(), 4.5)])
def test_queueing_counts_only_where_time_is_real(clock, expected):
    session = open_link(clock)
    upload(session, 2, now=0.0)
    assert verdict_at(session, 2, forward_s=0.5, queue_s=3.0) == pytest.approx(expected)


def test_no_link_leaves_only_the_forward():
    session = Link(profile("none"), SimulatedClock()).open(1, 0.0, 25, KEY)
    session.ready(1, 25, 0.0)
    assert upload(session, 2, now=1.0, bit=10**9) == 1.0
    at, bill = session.verdict(2, 25, 0.5)
    assert at == 1.5
    assert session.request_bill.plus(bill).link_s == 0.0


def test_what_no_base_station_sends_is_refused():
    session = open_link()
    with pytest.raises(ProtocolError, match="round 9"):
        session.verdict(9, 25, 0.0)
    upload(session, 2, now=0.0)
    for wrong in (math.nan, -1.0):
        with pytest.raises(ProtocolError, match="forward_s"):
            session.verdict(2, 25, wrong)


@pytest.mark.parametrize("fading", [FadingMode.BLOCK, FadingMode.SLOTTED])
def test_a_stream_that_broke_off_meets_gains_it_has_not_met(fading):
    """An uninterrupted stream's third message and the first one after a loss fade alike: gains are numbered by message."""

    def airtimes(lost):
        device = Link(LinkSettings(fading=fading, outage_rate_bit_s=1e5), SimulatedClock())
        session, found = device.open(1, 0.0, 100, KEY), []
        found.append(session.request_bill.airtime_s)
        session.upload(2, 100.0, 20_000, 0, 0)
        found.append(session.request_bill.airtime_s)
        if lost:
            device.broke_off(session)
            session = device.open(3, 200.0, 100, KEY, again=True)
        session.upload(4, 300.0, 20_000, 0, 0)
        return [*found, session.request_bill.airtime_s]

    whole, broken = airtimes(lost=False), airtimes(lost=True)
    assert whole[:2] == broken[:2]
    assert broken[2] != whole[1], "the gain of the message before the loss"
    assert len({*whole, *broken}) == 4
