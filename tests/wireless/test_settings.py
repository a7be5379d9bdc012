"""Link settings and named links."""

import pytest

from uihlm_proto.errors import InvalidRequestError
from uihlm_proto.randomness import session_key
from uihlm_wireless.channel import RadioLink
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import PROFILE_NAMES, AirtimeBasis, LinkSettings, profile

KEY = session_key(0, 0)


def test_defaults_are_the_papers_link():
    assert profile("paper") == LinkSettings()
    assert profile("paper").uplink_airtime_s(32000 * 32, KEY, 1) == pytest.approx(5.880, abs=0.0005)
    assert profile("paper").downlink_airtime_s(10**9) == 0.0


def test_no_link_takes_no_time():
    settings = profile("none")
    assert settings.uplink_airtime_s(10**9, KEY, 1) == 0.0
    assert settings.rtt_s == settings.grant_delay_s == 0.0


@pytest.mark.parametrize(("name", "up", "down"), [("nr", 133e6, 199e6), ("lpwan", 50e3, 103e3)])
def test_named_links_have_the_rates_their_comments_state(name, up, down):
    settings = profile(name)
    assert settings.radio.rate_bit_s() == pytest.approx(up, rel=0.01)
    assert settings.downlink.rate_bit_s() == pytest.approx(down, rel=0.01)


def test_an_unknown_link_is_refused_with_the_known_ones():
    with pytest.raises(InvalidRequestError, match=", ".join(PROFILE_NAMES)):
        profile("satellite")


def test_devices_divide_the_rate_both_ways():
    alone, shared = LinkSettings(downlink=RadioLink()), LinkSettings(downlink=RadioLink(), devices=4)
    assert shared.uplink_airtime_s(1000, KEY, 1) == pytest.approx(4 * alone.uplink_airtime_s(1000, KEY, 1))
    assert shared.downlink_airtime_s(1000) == pytest.approx(4 * alone.downlink_airtime_s(1000))


def test_airtime_follows_what_it_is_told_to():
    assert LinkSettings().uplink_bit(model_bit=7, wire_bytes=100) == 7
    assert LinkSettings(airtime=AirtimeBasis.WIRE).uplink_bit(model_bit=7, wire_bytes=100) == 800


def test_fading_depends_on_its_seed_and_repeats():
    airtime = [
        LinkSettings(fading=FadingMode.SLOTTED, fading_seed=seed).uplink_airtime_s(10**6, KEY, 1) for seed in (0, 0, 1)
    ]
    assert airtime[0] == airtime[1] != airtime[2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"coherence_s": 0.0},
        {"outage_rate_bit_s": 0.0},
        {"rtt_s": -0.1},
        {"grant_delay_s": float("nan")},
        {"devices": 0},
        {"b_prob": 0},
        {"fading_seed": 2**63},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        LinkSettings(**wrong)
