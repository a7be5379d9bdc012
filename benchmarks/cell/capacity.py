"""How many devices one base station holds at a set rate, by policy, measured and in closed form.

    skipping   N ÷ N_llm = 1 ÷ r    r LLM forwards a token: where a forward's cost does not grow with its positions
                         = 1        where it grows in proportion: a skipped token is a position all the same
    blocks     N = 1 + L · t_draft ÷ t_verify    devices that keep one engine busy, one forward at a time (arXiv 2606.25091)
    air        N = W · log2(1 + ρ) ÷ (rate · bits a token)    devices that share one band

A cell holds its devices if, on average, they write at least 0.95 of the rate while they have a session, and a session stands
within a second: the two promises that servers of language models are held to, time per token and time to the first. Devices
draft in no time of this machine's: a draft is a sleep of as long as one took here alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cell.devices import Air, Contract, Pace
from benchmarks.cell.figure import draw
from benchmarks.cell.run import Cell, run, run_cell
from benchmarks.cell.station import Station, StationSettings, bundled_contract, station
from benchmarks.cell.traces import Trace, alone, recorded, running_on
from uihlm_wireless.channel import RadioLink

HELD = 0.95
OPENING_MS = 1000.0
POLICIES = ("llm", "hlm", "hlm, 4 drafts", "u", "ui")
BLOCKS = {1: "hlm", 4: "hlm, 4 drafts", 8: "hlm, 8 drafts"}
# The most that hold and the fewest that do not are this near, or neighbours; until both are known, tries go by strides.
_NEAR, _STRIDE = 1.12, 1.25
_SATURATED = 16


@dataclass(frozen=True, slots=True)
class Held:
    """One policy.

    Attributes:
        policy: its name, with the drafts of an upload.
        forwards_a_token, positions_a_token: of the LLM, as recorded.
        bits_a_token: payload.
        saturated_tokens_s: of 16 devices that never pause.
        devices: the most that held their rate.
        failed: the fewest that did not; None if none was tried.
        p99_ms: from upload to verdict, with `devices`.
        opening_ms: until a session stands, mean, with `devices`.
        air_devices: that the paper's band holds at these bits.
        air_devices_dense32: the same with a whole distribution beside each draft.
    """

    policy: str
    forwards_a_token: float
    positions_a_token: float
    bits_a_token: float
    saturated_tokens_s: float
    devices: int
    failed: int | None
    p99_ms: float
    opening_ms: float
    air_devices: float
    air_devices_dense32: float


@dataclass(frozen=True, slots=True)
class Block:
    """One draft length, one forward at a time.

    Attributes:
        drafts: L.
        verify_ms: from upload to verdict, alone.
        alone_rounds_s, full_rounds_s: of one device, and of as many as keep the engine busy.
        measured, closed_form: how many devices that is.
    """

    drafts: int
    verify_ms: float
    alone_rounds_s: float
    full_rounds_s: float
    measured: float
    closed_form: float


def measure(options: argparse.Namespace) -> None:
    """Measure, print and draw; --json writes the figures, --figure an SVG."""
    engine, _, weights = options.engines[0].partition(":")
    contract, draft_s = bundled_contract(), draft_seconds(options.threads)
    policies = recorded(options.traces)
    waiting = dict(policies)
    policies["llm"] = alone(policies["hlm"])
    policies["hlm"] = running_on(policies["hlm"])
    print(f"a draft alone: {1e3 * draft_s:.1f} ms; {options.rate:g} tokens/s a device; {options.engines[0]}")
    shared = {"engine": engine, "weights": weights or "auto", "threads": options.threads, "chunk": options.chunk}
    held: list[Held] = []
    blocks: list[Block] = []

    def save() -> None:
        content = {
            "rate": options.rate,
            "engine": options.engines[0],
            "draft_s": draft_s,
            "policies": [asdict(one) for one in held],
            "blocks": [asdict(one) for one in blocks],
        }
        if options.json:
            content = merge(Path(options.json), content)
        # Half of it is of blocks, which come last.
        if options.figure and content["policies"] and content["blocks"]:
            draw(content, Path(options.figure))

    if options.policies:
        with station(StationSettings(**shared, max_sessions=256, max_context=512)) as base:
            for name in options.policies:
                held.append(_held(base, contract, name, policies[name], draft_s, options))
                print(_line(held[-1], held[0]), flush=True)
                save()
    if options.blocks:
        with station(StationSettings(**shared, max_sessions=64, max_context=512, batching=False)) as base:
            for length in options.blocks:
                block = _block(base, contract, length, waiting[BLOCKS[length]], draft_s, options.seconds)
                blocks.append(block)
                print(
                    f"L = {length}: {block.measured:.2f} devices keep it busy, 1 + L·t_draft/t_verify ="
                    f" {block.closed_form:.2f} (t_verify {block.verify_ms:.1f} ms)",
                    flush=True,
                )
                save()


def merge(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write what was measured and return it; policies and block lengths of an earlier run that are not in this one stay."""
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        for kind, name in (("policies", "policy"), ("blocks", "drafts")):
            new = {one[name] for one in content[kind]}
            kept = [one for one in earlier[kind] if one[name] not in new]
            order = list(POLICIES) if name == "policy" else list(BLOCKS)
            content[kind] = sorted(kept + content[kind], key=lambda one, name=name, order=order: order.index(one[name]))
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def draft_seconds(threads: int) -> float:
    """Return the seconds of one draft of the bundled drafter, with nothing beside."""
    from uihlm_device.drafters.loading import Drafters, DrafterSettings
    from uihlm_device.rules.policies import PolicySettings, policy
    from uihlm_models.presets import Role
    from uihlm_models.sources import resolve

    drafters = Drafters(resolve("bundled", Role.DRAFTER), DrafterSettings(threads=threads))
    drafter = drafters.for_policy(policy("hlm", PolicySettings()))
    drafter.forward(0, list(range(100, 140)))
    took_s = []
    for position in range(40, 80):
        started_s = time.perf_counter()
        drafter.forward(position, [7])
        took_s.append(time.perf_counter() - started_s)
    return float(np.median(took_s))


def _held(
    base: Station, contract: Contract, name: str, traces: Sequence[Trace], draft_s: float, options: argparse.Namespace
) -> Held:
    def cell(devices: int, pace: Pace) -> Cell:
        air = Air(RadioLink().rate_bit_s()) if options.air else None
        return run(run_cell(base, contract, traces, devices, options.seconds, pace, air))

    saturated = cell(_SATURATED, Pace())
    pace = Pace(0.0 if name == "llm" else draft_s, options.rate)
    devices, best, failed = max(1, round(0.9 * saturated.tokens_s / options.rate)), 0, None
    p99_ms = opening_ms = math.nan
    for _ in range(options.tries):
        tried = cell(devices, pace)
        if holds(tried, options.rate):
            best, p99_ms, opening_ms = devices, tried.p99_ms, tried.opening_ms
        else:
            failed = devices
        between = next_try(best, failed)
        if between is None:
            break
        devices = between
    forwards, positions, bits, drafts = _costs(traces, name == "llm")
    air_bit_s = RadioLink().rate_bit_s()
    dense_bit = drafts * 32 * contract.vocabulary_size
    return Held(
        name,
        forwards,
        positions,
        bits,
        saturated.tokens_s,
        best,
        failed,
        p99_ms,
        opening_ms,
        air_bit_s / (options.rate * bits) if bits else math.inf,
        air_bit_s / (options.rate * dense_bit) if dense_bit else math.inf,
    )


def holds(cell: Cell, rate: float) -> bool:
    """Return whether devices write as fast as they were to, and need not wait for their sessions."""
    return float(np.mean(cell.device_tokens_s)) >= HELD * rate and cell.opening_ms <= OPENING_MS


def next_try(best: int, failed: int | None) -> int | None:
    """Return how many devices to try next, given the most that held and the fewest that did not; None where they are near."""
    if failed is None:
        return max(best + 1, round(best * _STRIDE))
    if best == 0:
        return max(1, min(failed - 1, round(failed / _STRIDE))) if failed > 1 else None
    if failed - best < 2 or failed <= best * _NEAR:
        return None
    return min(failed - 1, max(best + 1, round(math.sqrt(best * failed))))


def _costs(traces: Sequence[Trace], is_alone: bool) -> tuple[float, float, float, float]:
    """Return LLM forwards, LLM positions, payload bits and drafts, each per token, of recorded answers."""
    if is_alone:
        return 1.0, 1.0, 0.0, 0.0
    tokens = forwards = positions = bits = drafts = 0.0
    for trace in traces:
        tokens += trace.tokens
        for step in trace.steps:
            count = len(step.payloads)
            forwards += 1
            # The token of the last verdict; and the drafts, if rows after them are wanted.
            positions += len(step.skipped) + 1 + (count if count > 1 else 0)
            bits += 8 * sum(map(len, step.payloads))
            drafts += count
    return forwards / tokens, positions / tokens, bits / tokens, drafts / tokens


def _block(
    base: Station, contract: Contract, length: int, traces: Sequence[Trace], draft_s: float, seconds: float
) -> Block:
    pace = Pace(draft_s)
    one, full = (run(run_cell(base, contract, traces, n, seconds, pace)) for n in (1, 16))
    return Block(
        length,
        one.p50_ms,
        one.rounds_s,
        full.rounds_s,
        full.rounds_s / one.rounds_s,
        1.0 + length * 1e3 * draft_s / one.p50_ms,
    )


def _line(held: Held, first: Held) -> str:
    return (
        f"{held.policy:14} {held.devices:4} devices (not {held.failed}), {held.devices / max(1, first.devices):5.2f} of llm;"
        f" forwards/token {held.forwards_a_token:.2f}, positions/token {held.positions_a_token:.2f};"
        f" saturated {held.saturated_tokens_s:6.1f} tokens/s; p99 {held.p99_ms:.0f} ms,"
        f" opening {held.opening_ms:.0f} ms;"
        f" air {held.air_devices:.0f} ({held.air_devices_dense32:.2g} with dense32)"
    )
