"""Two energy profiles: the paper's cost model, and physical joules.

    ē = l_u · B · ε_u  +  l_r · ε_r  +  l_s · ε_s           η = 1 - ē / ē_HLM            (arXiv:2508.12590, Section IV)

with l_u, l_r, l_s the uploaded, rejected and generated tokens and ε = 300, 350, 100. The paper's units do not add up
(bits times watts). Read with B = 0.42 for a full 32-bit distribution, and in proportion for fewer bits,

    B = 0.42 · model bits / (V · 32)

it gives the paper's η_SLM = 69.5 % exactly, and the other 21 rows of its Table I with a mean absolute error of 3.6
points. ē is taken a token, so that runs of different length compare; its unit is the model's own, not the joule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.channel import RadioLink

UPLOAD_COST = 300.0
REJECT_COST = 350.0
TOKEN_COST = 100.0
DENSE32_LOAD = 0.42

_PAPER_TRANSMIT_W = RadioLink().transmit_power_w


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of a run.

    Attributes:
        tokens: l_s, all generated tokens.
        uploaded: l_u.
        rejected: l_r.

    Raises:
        InvalidRequestError: unless tokens > 0 and 0 ≤ rejected ≤ uploaded.
    """

    tokens: int
    uploaded: int
    rejected: int

    def __post_init__(self) -> None:
        if self.tokens <= 0 or not 0 <= self.rejected <= self.uploaded:
            raise InvalidRequestError(
                "energy needs 0 ≤ rejected ≤ uploaded and at least one token, got "
                f"rejected {self.rejected}, uploaded {self.uploaded}, tokens {self.tokens}"
            )


def paper_energy(counts: TokenCounts, model_bit: int, vocabulary_size: int) -> float:
    """Return ē a token of a run that uploaded `model_bit` model bits in all, in the paper's unit."""
    if model_bit < 0 or vocabulary_size < 1:
        raise InvalidRequestError(
            f"energy needs model_bit ≥ 0 and vocabulary_size ≥ 1, got {model_bit} and {vocabulary_size}"
        )
    # l_u · B over the whole run: drafts that were never judged went over the air as well.
    uploaded_load = DENSE32_LOAD * model_bit / (vocabulary_size * 32)
    total = uploaded_load * UPLOAD_COST + counts.rejected * REJECT_COST + counts.tokens * TOKEN_COST
    return total / counts.tokens


def paper_hlm_energy(counts: TokenCounts) -> float:
    """Return ē_HLM a token: the run's `hlm` row, whatever its codec, billed at B = 0.42."""
    return paper_energy(counts, counts.uploaded * 32, vocabulary_size=1)


def energy_saving_ratio(energy: float, hlm_energy: float) -> float:
    """Return η = 1 - ē/ē_HLM, at most 1; negative for a run that costs more than `hlm`."""
    if not hlm_energy > 0.0:
        raise InvalidRequestError(f"the energy of the hlm baseline must be above 0, got {hlm_energy}")
    return 1.0 - energy / hlm_energy


@dataclass(frozen=True, slots=True)
class Joules:
    """Energy of a run by where it was spent."""

    transmit_j: float
    device_j: float
    basestation_j: float

    @property
    def total_j(self) -> float:
        """All three together."""
        return self.transmit_j + self.device_j + self.basestation_j


@dataclass(frozen=True, slots=True)
class JouleProfile:
    """Physical energy: watts times seconds.

    The default watts of device and base station are assumptions, not measurements: a phone-class processor under load
    and one server GPU. Set your own before quoting joules. Transmit power is what is radiated (23 dBm = 0.1995 W); a
    power amplifier draws more.

    Attributes:
        transmit_w: while the uplink is on the air.
        device_w: while the device computes.
        basestation_w: while the base station computes for this session.

    Raises:
        InvalidRequestError: for a power that is negative or not finite.
    """

    transmit_w: float = _PAPER_TRANSMIT_W
    device_w: float = 5.0
    basestation_w: float = 300.0

    def __post_init__(self) -> None:
        for name in ("transmit_w", "device_w", "basestation_w"):
            _require_at_least_zero(name, getattr(self, name))

    def energy_j(self, airtime_s: float, device_busy_s: float, basestation_busy_s: float) -> Joules:
        """Return the energy of so many seconds on the air, of device compute and of base-station compute."""
        _require_at_least_zero("airtime_s", airtime_s)
        _require_at_least_zero("device_busy_s", device_busy_s)
        _require_at_least_zero("basestation_busy_s", basestation_busy_s)
        return Joules(
            transmit_j=self.transmit_w * airtime_s,
            device_j=self.device_w * device_busy_s,
            basestation_j=self.basestation_w * basestation_busy_s,
        )


def _require_at_least_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise InvalidRequestError(f"{name} must be a finite number of at least 0, got {value}")
