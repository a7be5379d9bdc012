"""A link that replays a trace: its timeline by hand, and what a stream that breaks off finds."""

import pytest

from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_wireless.clock import SimulatedClock
from uihlm_wireless.fading import FadingMode, OutageError
from uihlm_wireless.link import Link
from uihlm_wireless.settings import AirtimeBasis, LinkSettings
from uihlm_wireless.trace import TraceEnd
from uihlm_wireless.trace_file import LinkTrace

KEY = session_key(0, 0)


@pytest.fixture
def trace(tmp_path):
    """1000 bit/s, nothing for a second, 500 bit/s: 2 s of each."""
    path = tmp_path / "trace.csv"
    path.write_text("0,1000\n2,0\n3,500\n5,500\n")
    return lambda end=TraceEnd.ONCE: LinkTrace(str(path), LinkTrace.of(path).sha256, end)


def link(trace, **settings):
    return Link(LinkSettings(trace=trace, **settings), SimulatedClock())


def test_an_upload_begins_after_wait_and_grant_and_meets_the_trace_there(trace):
    session = link(trace(), rtt_s=0.2, grant_delay_s=0.5).open(1, 100.0, 25, KEY)
    # 1.5 s in: half a second at 1000 bit/s, a second of nothing, then 500 bit/s.
    assert session.upload(2, 101.0, 750, 750, 50) == pytest.approx(101.0 + 0.5 + 0.5 + 1.0 + 0.5 + 0.1)
    bill = session.request_bill
    assert (bill.airtime_s, bill.grant_s, bill.wait_s) == pytest.approx((2.0, 0.5, 0.0))
    # Queued: no grant, and on from where the last one ended.
    assert session.upload(3, 102.0, 100, 100, 50) == pytest.approx(103.5 + 0.2 + 0.1)
    assert session.request_bill.wait_s == pytest.approx(1.5)


def test_devices_of_the_cell_share_the_trace(trace):
    session = link(trace(), devices=4).open(1, 0.0, 25, KEY)
    session.upload(2, 0.0, 100, 100, 50)
    assert session.request_bill.airtime_s == pytest.approx(0.4)


def test_open_is_carried_by_the_trace_where_the_wire_counts(trace):
    session = link(trace(), airtime=AirtimeBasis.WIRE).open(1, 0.0, 125, KEY)
    assert session.request_bill.airtime_s == pytest.approx(1.0)


def test_places_differ_by_prompt_and_seed_and_not_by_when(trace):
    def airtime_s(prompt, seed, at):
        settings = {"trace": trace(TraceEnd.LOOP), "fading_seed": seed}
        session = link(**settings).open(1, at, 25, session_key(0, prompt))
        session.upload(2, at, 1000, 1000, 50)
        return session.request_bill.airtime_s

    assert airtime_s(0, 0, 0.0) == pytest.approx(airtime_s(0, 0, 1234.5), abs=1e-8)
    assert len({round(airtime_s(prompt, seed, 0.0), 6) for prompt in (0, 1) for seed in (0, 1)}) == 4
    settings = LinkSettings(trace=trace(TraceEnd.LOOP))
    assert 0.0 < settings.trace_start_s(KEY) < 7.0
    assert LinkSettings(trace=trace()).trace_start_s(KEY) == 0.0
    assert LinkSettings().trace_start_s(KEY) is None


def test_after_the_end_is_an_outage_that_leaves_the_link_as_it_was(trace):
    session = link(trace()).open(1, 0.0, 25, KEY)
    with pytest.raises(OutageError, match="--link-trace-end loop"):
        session.upload(2, 6.5, 1000, 1000, 50)
    assert session.upload(3, 6.5, 100, 100, 50) == pytest.approx(6.7)


def test_a_stream_that_broke_off_goes_on_in_its_trace_and_another_does_not(trace):
    device = link(trace())
    lost = device.open(1, 10.0, 25, KEY)
    device.broke_off(lost)
    again = device.open(2, 13.0, 25, KEY, again=True)
    assert again.upload(3, 13.0, 500, 500, 50) == pytest.approx(14.0)
    anew = device.open(4, 20.0, 25, KEY)
    assert anew.upload(5, 20.0, 500, 500, 50) == pytest.approx(20.5)


def test_the_next_answer_under_the_key_of_one_that_failed_begins_anew(trace):
    """Every policy answers a prompt under the same key: what befell one row is nothing to the next."""
    device = link(trace())
    device.broke_off(device.open(1, 10.0, 25, KEY))
    assert device.open(2, 13.0, 25, KEY).upload(3, 13.0, 500, 500, 50) == pytest.approx(13.5)
    # Nor is it kept for later.
    assert device.open(4, 20.0, 25, KEY, again=True).upload(5, 20.0, 500, 500, 50) == pytest.approx(20.5)


def test_streams_that_nobody_opens_again_are_forgotten(trace):
    """Only the latest: a device may serve for months."""
    device, kept = link(trace()), 1024
    keys = [index.to_bytes(16, "little") for index in range(kept + 1)]
    for number, key in enumerate(keys):
        device.broke_off(device.open(number, 10.0, 25, key))
    latest = device.open(5000, 13.0, 25, keys[-1], again=True)
    assert latest.upload(5001, 13.0, 500, 500, 50) == pytest.approx(14.0)
    device.open(5002, 20.0, 25, keys[-1])
    oldest = device.open(5003, 30.0, 25, keys[0], again=True)
    assert oldest.upload(5004, 30.0, 500, 500, 50) == pytest.approx(30.5)


def test_fading_beside_a_trace_is_refused(trace):
    with pytest.raises(InvalidRequestError, match="holds its own fading"):
        LinkSettings(trace=trace(), fading=FadingMode.SLOTTED)
