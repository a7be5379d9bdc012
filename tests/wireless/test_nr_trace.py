"""Traces of 5G NR: the loop around Sionna's parts, with parts that are known; and with Sionna itself where it is installed."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from uihlm_proto.errors import InvalidRequestError, UihlmError
from uihlm_wireless import nr_trace as nr
from uihlm_wireless.nr_trace import NrSettings

torch = pytest.importorskip("torch")


class FakeSionna:
    """A channel whose gain is the slot's number, blocks of 100 bits times their MCS, and one loss where it is told."""

    def __init__(self, monkeypatch, lost=()):
        self.config = SimpleNamespace(seed=None)
        self.lost, self.heard, self.channels, self.grids = set(lost), [], [], []
        fake = self

        class TDL:
            def __init__(self, **settings):
                fake.channels.append(settings)

            def __call__(self, batch_size, num_time_steps, sampling_frequency):
                fake.channels.append((batch_size, num_time_steps, sampling_frequency))
                return torch.arange(1.0, num_time_steps + 1), None

        class UMi:
            def __init__(self, **settings):
                fake.channels.append(settings)

            def set_topology(self, *topology):
                fake.channels.append(topology)

            def __call__(self, num_time_samples, sampling_frequency):
                fake.channels.append((num_time_samples, sampling_frequency))
                return torch.arange(1.0, num_time_samples + 1), None

        def topology(**settings):
            fake.channels.append(settings)
            return "here", "there"

        class PHYAbstraction:
            def __call__(self, mcs, sinr, mcs_table_index, mcs_category):
                slot = len(fake.grids)
                fake.grids.append((tuple(sinr.shape), float(sinr.max()), mcs_table_index, mcs_category))
                ack = slot not in fake.lost
                return (
                    torch.tensor([100 * int(mcs) * ack]),
                    torch.tensor([int(ack)]),
                    sinr.mean().reshape(1),
                    None,
                    None,
                )

        class OuterLoopLinkAdaptation:
            def __init__(self, phy, num_ut, bler_target, sinr_eff_init):
                fake.first = (num_ut, bler_target, sinr_eff_init)

            def __call__(self, elements, harq_feedback, sinr_eff, mcs_table_index, mcs_category):
                fake.heard.append((int(elements), int(harq_feedback), None if sinr_eff is None else float(sinr_eff)))
                return torch.tensor([3 if harq_feedback == 0 else 5])

        def spread(frequencies, a, tau):
            return (
                a.sqrt().reshape(1, 1, 1, 1, 1, -1, 1).expand(1, 1, 1, 1, 1, -1, len(frequencies)).to(torch.complex64)
            )

        parts = {
            "sionna": {"__version__": "2.2.0"},
            "sionna.phy": {"config": self.config},
            "sionna.phy.channel": {
                "cir_to_ofdm_channel": spread,
                "subcarrier_frequencies": lambda n, spacing: torch.arange(float(n)) * spacing,
                "gen_single_sector_topology": topology,
            },
            "sionna.phy.channel.tr38901": {"TDL": TDL, "UMi": UMi, "Antenna": lambda **settings: settings},
            "sionna.sys": {"PHYAbstraction": PHYAbstraction, "OuterLoopLinkAdaptation": OuterLoopLinkAdaptation},
        }
        for name, members in parts.items():
            module = ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)


def test_a_slot_carries_its_block_or_nothing(monkeypatch):
    fake = FakeSionna(monkeypatch, lost={1})
    made = nr.nr_trace(NrSettings(snr_db=10.0, subcarrier_spacing_hz=30e3, duration_s=0.002, resource_blocks=2, seed=9))
    # Half a millisecond a slot: 500 bits at MCS 5, nothing, 300 at MCS 3 after the NACK, 500.
    assert made.rates_bit_s == [1e6, 0.0, 0.6e6, 1e6]
    assert (made.slot_s, made.error_rate, made.mean_mcs) == (0.0005, 0.25, 4.5)
    assert made.mean_rate_bit_s == pytest.approx(0.65e6)
    assert fake.config.seed == 9


def test_link_adaptation_knows_the_last_slot_and_not_this_one(monkeypatch):
    fake = FakeSionna(monkeypatch, lost={1})
    nr.nr_trace(NrSettings(snr_db=10.0, duration_s=0.003, resource_blocks=2, mcs_table=2, bler_target=0.2))
    elements = 24 * 12
    assert fake.first == (1, 0.2, pytest.approx(10.0))
    assert fake.heard == [
        (elements, -1, None),
        (elements, 1, pytest.approx(10.0)),
        (elements, 0, pytest.approx(20.0)),
    ]
    assert [grid[0] for grid in fake.grids] == [(12, 24, 1, 1)] * 3
    assert [grid[1] for grid in fake.grids] == pytest.approx([10.0, 20.0, 30.0])
    assert {grid[2:] for grid in fake.grids} == {(2, 1)}


def test_the_channel_is_the_one_asked_for(monkeypatch):
    fake = FakeSionna(monkeypatch)
    nr.nr_trace(NrSettings(0.0, "A", 1e-7, 15.0, 2e9, subcarrier_spacing_hz=30e3, duration_s=0.001))
    assert fake.channels == [
        {"model": "A", "delay_spread": 1e-7, "carrier_frequency": 2e9, "min_speed": 15.0, "max_speed": 15.0},
        (1, 2, pytest.approx(2000.0)),
    ]


def test_a_place_in_a_microcell_has_the_speed_and_the_mean_snr_asked_for(monkeypatch):
    fake = FakeSionna(monkeypatch)
    made = nr.nr_trace(NrSettings(10.0, nr.UMI, speed_m_s=3.0, carrier_hz=2e9, duration_s=0.003))
    model, drawn, placed, run = fake.channels
    assert model["carrier_frequency"] == 2e9 and model["direction"] == "uplink"
    assert not model["enable_pathloss"] and not model["enable_shadow_fading"]
    assert model["ut_array"] == model["bs_array"] and model["ut_array"]["carrier_frequency"] == 2e9
    assert (drawn["scenario"], drawn["min_ut_velocity"], drawn["max_ut_velocity"]) == ("umi", 3.0, 3.0)
    assert drawn["num_ut"] == drawn["batch_size"] == 1 and drawn["indoor_probability"] == 0.0
    assert placed == ("here", "there") and run == (3, pytest.approx(1000.0))
    # Gains 1, 2, 3: scaled to a mean of 10 dB.
    assert [grid[1] for grid in fake.grids] == pytest.approx([5.0, 10.0, 15.0])
    assert len(made.rates_bit_s) == 3


def test_shannon_is_summed_over_subcarriers_of_the_same_channel(monkeypatch):
    FakeSionna(monkeypatch)
    made = nr.nr_trace(NrSettings(snr_db=0.0, duration_s=0.003))
    # Gains 1, 2, 3 at 0 dB over 60 subcarriers of 15 kHz.
    assert made.shannon_bit_s == pytest.approx(0.9e6 * (1.0 + 1.5849625 + 2.0) / 3, rel=1e-6)


def test_without_sionna_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sionna", None)
    with pytest.raises(UihlmError, match=r"pip install 'uihlm\[sionna\]'"):
        nr.nr_trace(NrSettings(snr_db=0.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"snr_db": float("nan")},
        {"snr_db": 101.0},
        {"model": "F"},
        {"delay_spread_s": -1.0},
        {"speed_m_s": -1.0},
        {"carrier_hz": 1e6},
        {"resource_blocks": 0},
        {"subcarrier_spacing_hz": 20e3},
        {"mcs_table": 3},
        {"bler_target": 1.0},
        {"duration_s": 0.0},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        NrSettings(**{"snr_db": 0.0, **wrong})


@pytest.mark.slow
@pytest.mark.parametrize("model", ["C", nr.UMI])
def test_sionna_itself_carries_less_than_shannon_and_repeats(model):
    pytest.importorskip("sionna")
    settings = NrSettings(snr_db=20.0, model=model, duration_s=0.3, seed=4)
    made = nr.nr_trace(settings)
    assert made.rates_bit_s == nr.nr_trace(settings).rates_bit_s
    assert 0.3 * made.shannon_bit_s < made.mean_rate_bit_s < made.shannon_bit_s
    assert 0.0 < made.error_rate < 0.3
