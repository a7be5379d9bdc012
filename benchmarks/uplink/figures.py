"""What a way of asking comes to on a link."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.uplink.bench import Ran
from uihlm_device.tokens import Origin
from uihlm_wireless.energy import JouleProfile
from uihlm_wireless.settings import LinkSettings


@dataclass(frozen=True, slots=True)
class Figures:
    """What a variant comes to on a link; rates are ratios of totals over the prompts."""

    payload_bit: float
    wire_byte: float
    acceptance: float | None
    tokens_a_trip: float | None
    llm_forwards: float
    llm_positions: float
    joules: float
    tok_s: float
    airtime_share: float
    elapsed_s: list[float]
    tokens: list[int]


def figures(ran: Ran, settings: LinkSettings, elapsed_s: list[float], airtime_s: list[float]) -> Figures:
    """Return the figures of what ran, on a link where it took so long."""
    records = [record for answer in ran.records for record in answer]
    tokens, judged = len(records), sum(r.uploaded for r in records)
    rejected = sum(r.origin is Origin.RESAMPLED for r in records)
    trips = sum(answer[-1].round or 0 for answer in ran.records)
    draft_s, forward_s = sum(r.draft_s for r in records), sum(r.forward_s for r in records)
    transmit_w = settings.radio.transmit_power_w if settings.radio is not None else 0.0
    joules = JouleProfile(transmit_w).energy_j(sum(airtime_s), draft_s, forward_s)
    return Figures(
        payload_bit=sum(r.payload_bits for r in records) / tokens,
        wire_byte=sum(r.wire_bytes for r in records) / tokens,
        acceptance=1.0 - rejected / judged if judged else None,
        tokens_a_trip=tokens / trips if judged else None,
        llm_forwards=sum(r.llm_forwards for r in records) / tokens,
        llm_positions=sum(r.llm_positions for r in records) / tokens,
        joules=joules.total_j / tokens,
        tok_s=tokens / sum(elapsed_s),
        airtime_share=sum(airtime_s) / (draft_s + forward_s) if draft_s + forward_s else 0.0,
        elapsed_s=elapsed_s,
        tokens=[len(answer) for answer in ran.records],
    )
