"""What 5G NR would carry over a fading channel, slot by slot: a trace made with Sionna (extra `sionna`).

    3GPP TR 38.901 fading (a tapped delay line, or UMi)  →  SNR of each subcarrier  →  effective SNR (EESM)
    last slot's effective SNR and ACK or NACK  →  outer-loop link adaptation  →  MCS of this slot
    block error rate of that MCS at this slot's effective SNR  →  ACK: the transport block's bits; NACK: none

One antenna at either end, every uplink slot this device's, 12 of 14 symbols data, the channel still within a slot, what the
base station measured known one slot later, perfect channel estimates. What a NACK costs is its whole block: it is sent anew,
nothing of it is combined (Sionna's abstraction has no soft combining). The MCS tables are those of an uplink without transform
precoding (TS 38.214, Tables 5.1.3.1-1 and -2). Sionna 2.2 has block error rates from code rate 1/5 on, that is from MCS 3 of
table 1 and MCS 2 of table 2, so that below some -3 dB most blocks are lost. NR itself goes lower: MCS 0 of table 1 has 0.234
bit a symbol, and the table for low spectral efficiency 0.059 (not in Sionna: no calibrated effective SNR).

Source: J. Hoydis et al., Sionna, arXiv:2203.11854.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uihlm_proto.errors import InvalidRequestError, UihlmError

SUBCARRIERS_PER_BLOCK = 12
DATA_SYMBOLS = 12
UMI = "UMi"
MODELS = ("A", "B", "C", "D", "E", UMI)
_PDSCH = 1  # Sionna's category of the tables named above


@dataclass(frozen=True, slots=True)
class NrSettings:
    """A device and its channel.

    Attributes:
        snr_db: mean SNR of the occupied band.
        model: power delay profile of TR 38.901, Table 7.7.2; D and E have a line of sight. "UMi": one place outdoors in an
            urban microcell, drawn by the seed with its clusters and whether it has a line of sight.
        delay_spread_s: RMS delay spread of a profile; UMi draws its own.
        speed_m_s: of the device; sets the Doppler spread.
        carrier_hz: carrier frequency.
        resource_blocks: of 12 subcarriers each; 5 of them at 15 kHz fill 0.9 MHz.
        subcarrier_spacing_hz: 15, 30, 60 or 120 kHz; a slot takes 1 ms at 15 kHz, half of it at 30.
        mcs_table: 1 (up to 64QAM) or 2 (up to 256QAM).
        bler_target: share of blocks that link adaptation lets fail.
        duration_s: length of the trace.
        seed: of channel and block errors.

    Raises:
        InvalidRequestError: for a value outside its range.
    """

    snr_db: float
    model: str = "C"
    delay_spread_s: float = 300e-9
    speed_m_s: float = 0.83
    carrier_hz: float = 3.5e9
    resource_blocks: int = 5
    subcarrier_spacing_hz: float = 15e3
    mcs_table: int = 1
    bler_target: float = 0.1
    duration_s: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "snr_db": (-100.0, 100.0),
            "delay_spread_s": (0.0, 1e-3),
            "speed_m_s": (0.0, 1000.0),
            "carrier_hz": (0.5e9, 100e9),
            "resource_blocks": (1, 275),
            "bler_target": (0.001, 0.999),
            "duration_s": (self.slot_s, 3600.0),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidRequestError(f"{name} must be {low:g} … {high:g}, got {value}")
        for name, allowed in (("model", MODELS), ("mcs_table", (1, 2)), ("subcarrier_spacing_hz", _SPACINGS_HZ)):
            if getattr(self, name) not in allowed:
                raise InvalidRequestError(
                    f"{name} must be one of {', '.join(map(str, allowed))}, got {getattr(self, name)}"
                )

    @property
    def slot_s(self) -> float:
        """Seconds a slot of 14 symbols takes."""
        return 1e-3 * 15e3 / self.subcarrier_spacing_hz

    @property
    def slots(self) -> int:
        """Slots of the trace."""
        return round(self.duration_s / self.slot_s)

    @property
    def subcarriers(self) -> int:
        """Subcarriers of the band."""
        return SUBCARRIERS_PER_BLOCK * self.resource_blocks


_SPACINGS_HZ = (15e3, 30e3, 60e3, 120e3)


@dataclass(frozen=True, slots=True)
class NrTrace:
    """What came of it.

    Attributes:
        rates_bit_s: bits of the slot's block a second, 0 where it was lost, `[slots]`.
        slot_s: seconds a slot.
        error_rate: share of blocks that were lost.
        mean_mcs: mean MCS index.
        shannon_bit_s: mean of Σ Δf·log2(1 + SNR) over the subcarriers, of the very same channel.
    """

    rates_bit_s: list[float]
    slot_s: float
    error_rate: float
    mean_mcs: float
    shannon_bit_s: float

    @property
    def mean_rate_bit_s(self) -> float:
        """Bits carried a second."""
        return math.fsum(self.rates_bit_s) / len(self.rates_bit_s)


def nr_trace(settings: NrSettings, on_slot: Callable[[int], None] = lambda done: None) -> NrTrace:
    """Return what a device carries; the same settings give the same trace under one version of Sionna and Torch.

    Args:
        settings: device and channel.
        on_slot: called with the number of slots done.

    Raises:
        UihlmError: if Sionna is not installed.
    """
    torch, sionna = _libraries()
    sionna.config.seed = settings.seed
    with torch.inference_mode():
        sinr = _sinr(settings, torch, sionna)
        bits, acks, mcs = _adapted(settings, sinr, torch, sionna, on_slot)
        shannon_bit_s = float(torch.log2(1.0 + sinr).mean()) * settings.subcarriers * settings.subcarrier_spacing_hz
    return NrTrace(
        [bit / settings.slot_s for bit in bits],
        settings.slot_s,
        1.0 - sum(acks) / len(acks),
        sum(mcs) / len(mcs),
        shannon_bit_s,
    )


def versions() -> str:
    """Return what made a trace, for its file."""
    torch, sionna = _libraries()
    return f"sionna {sionna.version}, torch {torch.__version__}"


def _sinr(settings: NrSettings, torch: Any, sionna: Any) -> Any:
    """SNR of every slot and subcarrier, `[slots, subcarriers]`, linear."""
    a, tau = _place(settings, sionna) if settings.model == UMI else _delay_line(settings, sionna)
    frequencies = sionna.subcarrier_frequencies(settings.subcarriers, settings.subcarrier_spacing_hz)
    gains = sionna.cir_to_ofdm_channel(frequencies, a, tau).abs().square()
    if settings.model == UMI:
        # A place has a gain of its own (polarisations that differ, say); the mean SNR is the one asked for.
        gains = gains / gains.mean()
    return gains.reshape(settings.slots, settings.subcarriers) * 10.0 ** (settings.snr_db / 10.0)


def _delay_line(settings: NrSettings, sionna: Any) -> tuple[Any, Any]:
    """Path coefficients and delays of a tapped delay line."""
    channel = sionna.TDL(
        model=settings.model,
        delay_spread=settings.delay_spread_s,
        carrier_frequency=settings.carrier_hz,
        min_speed=settings.speed_m_s,
        max_speed=settings.speed_m_s,
    )
    paths: tuple[Any, Any] = channel(
        batch_size=1, num_time_steps=settings.slots, sampling_frequency=1.0 / settings.slot_s
    )
    return paths


def _place(settings: NrSettings, sionna: Any) -> tuple[Any, Any]:
    """Path coefficients and delays of one device outdoors in an urban microcell; no path loss: the SNR stands for it."""
    antenna = sionna.Antenna(
        polarization="single", polarization_type="V", antenna_pattern="omni", carrier_frequency=settings.carrier_hz
    )
    channel = sionna.UMi(
        carrier_frequency=settings.carrier_hz,
        o2i_model="low",
        ut_array=antenna,
        bs_array=antenna,
        direction="uplink",
        enable_pathloss=False,
        enable_shadow_fading=False,
    )
    topology = sionna.gen_single_sector_topology(
        batch_size=1,
        num_ut=1,
        scenario="umi",
        indoor_probability=0.0,
        min_ut_velocity=settings.speed_m_s,
        max_ut_velocity=settings.speed_m_s,
    )
    channel.set_topology(*topology)
    paths: tuple[Any, Any] = channel(num_time_samples=settings.slots, sampling_frequency=1.0 / settings.slot_s)
    return paths


def _adapted(
    settings: NrSettings, sinr: Any, torch: Any, sionna: Any, on_slot: Callable[[int], None]
) -> tuple[list[int], list[int], list[int]]:
    """Run link adaptation over the slots; return bits, ACK (1) or NACK (0), and MCS of each."""
    abstraction = sionna.PHYAbstraction()
    adaptation = sionna.OuterLoopLinkAdaptation(
        abstraction, num_ut=1, bler_target=settings.bler_target, sinr_eff_init=float(sinr[0].mean())
    )
    table = {"mcs_table_index": settings.mcs_table, "mcs_category": _PDSCH}
    elements = torch.tensor([settings.subcarriers * DATA_SYMBOLS])
    feedback, effective = torch.tensor([-1]), None
    bits, acks, chosen = [], [], []
    for slot in range(settings.slots):
        mcs = adaptation(elements, harq_feedback=feedback, sinr_eff=effective, **table)
        # [symbols, subcarriers, devices, streams]
        grid = sinr[slot].reshape(1, -1, 1, 1).expand(DATA_SYMBOLS, -1, 1, 1)
        decoded, feedback, effective, _, _ = abstraction(mcs, sinr=grid, **table)
        bits.append(int(decoded))
        acks.append(int(feedback))
        chosen.append(int(mcs))
        on_slot(slot + 1)
    return bits, acks, chosen


@dataclass(frozen=True, slots=True)
class _Sionna:
    """The names this module uses."""

    version: str
    config: Any
    TDL: Any
    UMi: Any
    Antenna: Any
    gen_single_sector_topology: Any
    cir_to_ofdm_channel: Any
    subcarrier_frequencies: Any
    OuterLoopLinkAdaptation: Any
    PHYAbstraction: Any


def _libraries() -> tuple[Any, _Sionna]:
    try:
        import sionna
        import torch
        from sionna.phy import config
        from sionna.phy.channel import cir_to_ofdm_channel, gen_single_sector_topology, subcarrier_frequencies
        from sionna.phy.channel.tr38901 import TDL, Antenna, UMi
        from sionna.sys import OuterLoopLinkAdaptation, PHYAbstraction
    except ImportError as error:
        raise UihlmError(f"a trace is made with Sionna 2.2 or later ({error}): pip install 'uihlm[sionna]'") from error
    return torch, _Sionna(
        sionna.__version__,
        config,
        TDL,
        UMi,
        Antenna,
        gen_single_sector_topology,
        cir_to_ofdm_channel,
        subcarrier_frequencies,
        OuterLoopLinkAdaptation,
        PHYAbstraction,
    )
