"""Sums over the answers of a policy run, and what turns them into energy and throughput."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from uihlm_evaluation.runs.samples import Sample
from uihlm_wireless.energy import (
    JouleProfile,
    Joules,
    TokenCounts,
    energy_saving_ratio,
    paper_energy,
    paper_hlm_energy,
)
from uihlm_wireless.joules.ends import EndJoules
from uihlm_wireless.timing import PAPER, Eq3


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the prompts of a policy run that did not fail; fields as in `Sample`."""

    prompts: int
    tokens: int
    uploaded: int
    rejected: int
    model_bits: int
    payload_bits: int
    wire_bytes: int
    latency_s: float
    draft_s: float
    airtime_s: float
    llm_forwards: int
    llm_positions: int
    bs_busy_s: float
    skipped: int = 0
    audited: int = 0
    audit_bits: int = 0
    outage_tokens: int = 0
    lost_links: int = 0

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Totals:
        """Return the sums of `samples`."""
        kept = [sample for sample in samples if not sample.failed]
        names = [f.name for f in dataclasses.fields(cls)][1:]
        return cls(len(kept), *(sum(getattr(sample, name) for sample in kept) for name in names))

    @property
    def counts(self) -> TokenCounts:
        """What the paper's energy model counts."""
        return TokenCounts(self.tokens, self.uploaded, self.rejected)


@dataclass(frozen=True, slots=True)
class Bill:
    """What turns counts and seconds into energy and throughput.

    Attributes:
        vocabulary_size: V of the pair: B is a share of V · 32 bits.
        hlm: totals of the run's one `hlm` row, in the same setting; None leaves η unknown.
        joules: the physical powers.
        eq3: the constants of the paper's throughput.
    """

    vocabulary_size: int
    hlm: Totals | None = None
    joules: JouleProfile = field(default_factory=JouleProfile)
    eq3: Eq3 = PAPER

    def saving(self, totals: Totals) -> float | None:
        """Return η against `hlm`; None without tokens on either side."""
        if self.hlm is None or not self.hlm.tokens or not totals.tokens:
            return None
        energy = paper_energy(totals.counts, totals.model_bits, self.vocabulary_size)
        return energy_saving_ratio(energy, paper_hlm_energy(self.hlm.counts))

    def energy(self, totals: Totals) -> Joules:
        """Return the modelled joules of a run: transmitter, device and base station."""
        return self.joules.energy_j(totals.airtime_s, totals.draft_s, totals.bs_busy_s)


@dataclass(frozen=True, slots=True)
class MeasuredTotals(EndJoules):
    """Joules that meters read over the answers of a policy run; None where not every answer that counts has its own.

    The device's are from each prompt to its last token; the base station's are 0 for a measured run that never asked it.
    """

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> MeasuredTotals:
        """Return the sums of `samples`; failed ones are left out."""
        kept = [sample for sample in samples if not sample.failed]
        device_j = _sum([sample.measured_device_j for sample in kept])
        # An answer without a forward cost the base station nothing, whether or not it has a meter.
        spent = [
            0.0 if s.measured_basestation_j is None and not s.llm_forwards else s.measured_basestation_j for s in kept
        ]
        known = device_j is not None or any(sample.measured_basestation_j is not None for sample in kept)
        return cls(device_j, _sum(spent) if known else None, _sum([sample.measured_machine_j for sample in kept]))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    # One answer without a reading makes the sum a sum over something else.
    return sum(known) if known and len(known) == len(values) else None
