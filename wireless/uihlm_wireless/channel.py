"""The radio channel: SNR and uplink time.

    ρ = h · p · d^(-α) / σ²                   SNR, linear
    μ = B / (W · log2(1 + ρ))                 uplink time of B bits, Eq. (2) of arXiv:2508.12590

with h the channel gain (mean 1), p transmit power, d distance in metres, α path loss exponent, σ² noise power, W
bandwidth.
The defaults are the paper's: ρ = -8.92 dB at h = 1, and a distribution over 32,000 tokens takes 5.880 s at 32 bits a
probability, 2.940 s at 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from uihlm_proto.errors import InvalidRequestError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RadioLink:
    """One direction of a radio link.

    Attributes:
        bandwidth_hz: W.
        transmit_power_dbm: p.
        noise_dbm: σ², over the whole bandwidth.
        distance_m: d.
        path_loss_exponent: α.

    Raises:
        InvalidRequestError: for a value that is not finite, a bandwidth or distance not above 0, an exponent below 0,
            or an SNR beyond ±300 dB.
    """

    bandwidth_hz: float = 1e6
    transmit_power_dbm: float = 23.0
    noise_dbm: float = -104.0
    distance_m: float = 2500.0
    path_loss_exponent: float = 4.0

    def __post_init__(self) -> None:
        for name in ("bandwidth_hz", "transmit_power_dbm", "noise_dbm", "distance_m", "path_loss_exponent"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidRequestError(f"{name} must be a finite number, got {getattr(self, name)}")
        if self.bandwidth_hz <= 0.0:
            raise InvalidRequestError(f"bandwidth_hz must be above 0, got {self.bandwidth_hz}")
        if self.distance_m <= 0.0:
            raise InvalidRequestError(f"distance_m must be above 0, got {self.distance_m}")
        if self.path_loss_exponent < 0.0:
            raise InvalidRequestError(f"path_loss_exponent must be at least 0, got {self.path_loss_exponent}")
        if abs(self.snr_db) > 300.0:
            raise InvalidRequestError(
                f"the link has an SNR of {self.snr_db:.0f} dB, outside -300 … 300: check power, noise and distance"
            )

    @property
    def snr_db(self) -> float:
        """ρ at h = 1 in dB."""
        path_loss_db = 10.0 * self.path_loss_exponent * math.log10(self.distance_m)
        return self.transmit_power_dbm - path_loss_db - self.noise_dbm

    @property
    def transmit_power_w(self) -> float:
        """p in watts."""
        return float(10.0 ** ((self.transmit_power_dbm - 30.0) / 10.0))

    def snr(self, h: float = 1.0) -> float:
        """Return ρ, linear, at gain h."""
        return float(h * 10.0 ** (self.snr_db / 10.0))

    def rate_bit_s(self, h: float = 1.0) -> float:
        """Return W · log2(1 + ρ) at gain h."""
        return self.bandwidth_hz * math.log1p(self.snr(h)) / math.log(2.0)

    def rates_bit_s(self, h: FloatArray) -> FloatArray:
        """Return W · log2(1 + ρ) at each gain of h `[n]`, `[n]`."""
        rates: FloatArray = np.log1p(h * self.snr()) * (self.bandwidth_hz / math.log(2.0))
        return rates

    def uplink_time_s(self, bit: float, h: float = 1.0) -> float:
        """Return μ of Eq. (2), the seconds that `bit` bits take at gain h.

        Raises:
            InvalidRequestError: for a negative number of bits, or a gain at which nothing gets through.
        """
        if bit < 0:
            raise InvalidRequestError(f"a message cannot have {bit} bits: give 0 or more")
        if bit == 0:
            return 0.0
        rate_bit_s = self.rate_bit_s(h)
        if rate_bit_s <= 0.0:
            raise InvalidRequestError(f"at gain h = {h} the link carries no bits: the gain must be above 0")
        return bit / rate_bit_s

    def shared_by(self, devices: int) -> RadioLink:
        """Return the link of one of `devices` devices that share W evenly, each at the stated SNR."""
        return replace(self, bandwidth_hz=self.bandwidth_hz / devices)
