"""The record of one token: what the decode loop yields and `rounds.jsonl` holds."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Origin(enum.StrEnum):
    """Who wrote a token."""

    LOCAL = "local"
    ACCEPTED = "accepted"
    RESAMPLED = "resampled"
    BONUS = "bonus"
    LLM = "llm"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One committed token. A round's costs stand on its first token, under `llm` a message's; the others carry zeros.

    Attributes:
        position: absolute, counted from the first prompt token.
        token: its id.
        round: number of the round it came from, counted from 1 in its answer; None for a local token.
        origin: who wrote it.
        stop: it ends the answer (EOS or end of turn).
        uploaded: a draft at this position was sent for verification.
        x_d: the drafter's probability of its draft; None under `llm`.
        y_d: the LLM's probability of the draft, where a verdict told.
        tv: total variation between x and y, where a verdict told.
        reject_prob: rejection probability of the draft, where a verdict told.
        u: uncertainty, when computed.
        importance: attention weights above θ_imp, when computed.
        attention_entropy: entropy of the head-averaged attention row, in nats, when computed.
        attention_max: largest weight of that row, when computed.
        draft_s: seconds of device compute for this token.
        forward_s: seconds of LLM forward in its round.
        queue_s: seconds its round waited for the engine.
        link_s: seconds of link in its round: grant, queue for the air, airtime, RTT, downlink.
        airtime_s: seconds of uplink transmission in its round.
        model_bits: billed uplink bits of its round.
        payload_bits: uplink codec bytes and skipped ids of its round, in bits.
        wire_bytes: bytes of its round on the wire, both directions, framing included.
        uplink_wire_bytes: those of them that went up.
        llm_forwards: LLM forwards in its round.
        llm_positions: positions run through the LLM in its round.
        basestation_j: joules that the base station measured in its round; None where it measures none.
    """

    position: int
    token: int
    round: int | None
    origin: Origin
    stop: bool = False
    uploaded: bool = False
    x_d: float | None = None
    y_d: float | None = None
    tv: float | None = None
    reject_prob: float | None = None
    u: float | None = None
    importance: int | None = None
    attention_entropy: float | None = None
    attention_max: float | None = None
    draft_s: float = 0.0
    forward_s: float = 0.0
    queue_s: float = 0.0
    link_s: float = 0.0
    airtime_s: float = 0.0
    model_bits: int = 0
    payload_bits: int = 0
    wire_bytes: int = 0
    uplink_wire_bytes: int = 0
    llm_forwards: int = 0
    llm_positions: int = 0
    basestation_j: float | None = None
