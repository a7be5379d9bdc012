"""What answers cost: the sums behind the end-of-turn line and /stats.

The saving shown is modelled with the paper's cost profile (uihlm_wireless.energy), against the same turn with every
token uploaded. What became of the skipped drafts at the base station nobody knows, so none of them counts as rejected:

    ē     = (l_u·B·ε_u + l_r·ε_r + l_s·ε_s) / l_s      B = 0.42 · model bits / (32·V) an upload
    ē_all = (l_s·0.42·ε_u + l_r·ε_r + l_s·ε_s) / l_s
    η     ≥ 1 − ē/ē_all

with l_s, l_u, l_r the turn's tokens, uploads and rejections. `hlm` rejects some of the skipped drafts as well, which
costs it more than ē_all: hence a lower bound. It is 0 for `hlm` with dense32, and says nothing of an answer that the LLM
wrote alone.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

from uihlm_device.audit import AuditLedger
from uihlm_device.stream.session import Cost
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_wireless.energy import TokenCounts, energy_saving_ratio, paper_energy, paper_hlm_energy
from uihlm_wireless.ledger import RoundBill


@dataclass(slots=True)
class Turn:
    """Sums over the tokens of one answer, or of several.

    Attributes:
        answers: how many.
        tokens: generated, stop tokens included.
        uploaded: drafts judged, accepted + rejected.
        rejected: those of them that were rejected.
        llm_alone: tokens that the LLM wrote without a draft.
        elapsed_s: from the question to the last token, on the device's clock.
        draft_s: the drafter's busy time.
        forward_s: the LLM's busy time, prefills included.
        link_s: time on the link.
        airtime_s: the transmitter's busy time.
        model_bits: the paper's B summed.
        payload_bits: codec bytes and skipped ids.
        wire_bytes: all that went on the wire, both directions.
        llm_forwards: forwards of the LLM, prefills included.
        llm_positions: token positions these ran.
        skipped: tokens the device kept without asking.
        outage: tokens it would have asked about, had the base station been there.
        audited: those of them whose rejection probability the base station told.
        risk_sum: these probabilities, summed.
        metered_forwards: of `llm_forwards`, those whose joules the base station measured.
        metered_j: these joules.
    """

    answers: int = 0
    tokens: int = 0
    uploaded: int = 0
    rejected: int = 0
    llm_alone: int = 0
    elapsed_s: float = 0.0
    draft_s: float = 0.0
    forward_s: float = 0.0
    link_s: float = 0.0
    airtime_s: float = 0.0
    model_bits: int = 0
    payload_bits: int = 0
    wire_bytes: int = 0
    llm_forwards: int = 0
    llm_positions: int = 0
    skipped: int = 0
    outage: int = 0
    audited: int = 0
    risk_sum: float = 0.0
    metered_forwards: int = 0
    metered_j: float = 0.0

    def add(self, record: TokenRecord) -> None:
        """Count one token."""
        self.tokens += 1
        self.uploaded += record.uploaded
        self.rejected += record.origin is Origin.RESAMPLED
        self.llm_alone += record.origin is Origin.LLM
        self.skipped += record.origin is Origin.LOCAL
        self.outage += record.origin is Origin.OUTAGE
        self.draft_s += record.draft_s
        self.forward_s += record.forward_s
        self.link_s += record.link_s
        self.airtime_s += record.airtime_s
        self.model_bits += record.model_bits
        self.payload_bits += record.payload_bits
        self.wire_bytes += record.wire_bytes
        self.llm_forwards += record.llm_forwards
        self.llm_positions += record.llm_positions
        self._add_joules(record.llm_forwards, record.basestation_j)

    def add_opening(self, cost: Cost, bill: RoundBill) -> None:
        """Count a stream's Open: its prefill at the base station and its bytes."""
        self.forward_s += bill.forward_s
        self.llm_forwards += cost.forwards
        self.llm_positions += cost.positions
        self.link_s += bill.link_s
        self.airtime_s += bill.airtime_s
        self.wire_bytes += bill.wire_bytes
        self._add_joules(cost.forwards, cost.energy_j)

    def _add_joules(self, forwards: int, joules: float | None) -> None:
        if joules is not None:
            self.metered_forwards += forwards
            self.metered_j += joules

    def add_audit(self, audit: AuditLedger) -> None:
        """Count what the base station said of an answer's skipped tokens."""
        self.audited += audit.audited
        self.risk_sum += audit.risk_sum

    def plus(self, other: Self) -> Turn:
        """Return the sum of two."""
        return Turn(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(Turn)))

    @property
    def measured_basestation_j(self) -> float | None:
        """Joules that the base station told of itself; None unless it did so of every forward. 0 where there was none."""
        return self.metered_j if self.metered_forwards == self.llm_forwards else None

    @property
    def speed_tok_s(self) -> float | None:
        """Tokens a second; None where no time has passed."""
        return self.tokens / self.elapsed_s if self.elapsed_s > 0.0 else None

    @property
    def upload_rate(self) -> float | None:
        """Share of tokens uploaded; None without tokens."""
        return self.uploaded / self.tokens if self.tokens else None

    @property
    def skipped_risk(self) -> float | None:
        """Rejection probabilities of audited tokens, summed, ÷ all tokens; None where none was audited."""
        return self.risk_sum / self.tokens if self.audited else None

    @property
    def acceptance_rate(self) -> float | None:
        """Share of uploads accepted; None without uploads."""
        return 1.0 - self.rejected / self.uploaded if self.uploaded else None

    def energy_saving(self, vocabulary_size: int) -> float | None:
        """Return the lower bound of η; None without tokens, or where the LLM wrote some alone."""
        if self.tokens == 0 or self.llm_alone:
            return None
        energy = paper_energy(TokenCounts(self.tokens, self.uploaded, self.rejected), self.model_bits, vocabulary_size)
        return energy_saving_ratio(energy, paper_hlm_energy(TokenCounts(self.tokens, self.tokens, self.rejected)))
