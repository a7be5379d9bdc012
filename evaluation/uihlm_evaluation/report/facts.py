"""What was run, as named facts for a reader: prompts, settings, models, machine. Plain text; the page escapes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uihlm_evaluation.report.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Facts:
    """What was run.

    Attributes:
        title: the run in a few words.
        run: (name, value) of what the run is.
        settings: (name, value) of how tokens were drawn, sent and billed.
        models: role, label, SHA-256 and hub commit of each end's weights.
        machine: (name, value) of what it ran on and with which versions.
        failed: row, prompt and error of the answers that failed.
        config: every setting, as JSON.
    """

    title: str
    run: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    models: tuple[tuple[str, str, str, str], ...]
    machine: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str, str], ...]
    config: str


def facts(folder: RunFolder) -> Facts:
    """Return the facts of a run."""
    document = folder.document
    config, dataset, origin = document["config"], document["dataset"], document["provenance"]
    selection = config["selection"]
    commit = origin.get("git_commit") or "not from a checkout"
    models = tuple(
        (m["role"], m["label"], m["sha256"] or "not on the device's machine", m["commit"] or "–")
        for m in document["models"]
    )
    return Facts(
        title=f"{len(folder.results)} rows over {dataset['prompts']} prompts of {dataset['label']}",
        run=(
            ("prompts", f"{dataset['prompts']} of {dataset['label']}"),
            ("prompts, SHA-256", dataset["sha256"]),
            ("rows", ", ".join(result.row for result in folder.results)),
            ("tokens", f"{len(folder.rounds):,}"),
            ("seed", f"{selection['seed']} (of every token, of the draw of prompts, and of the intervals)"),
            ("seed of the fading", str(config["link"]["fading_seed"])),
            ("metric", origin.get("metric_hash") or "none: the run was not scored"),
            ("failed answers", str(len(document.get("failed", ())))),
        ),
        settings=(*_settings(config), ("joules", _meter(document.get("meter")))),
        models=models,
        machine=(
            ("machine", f"{origin['cpu']}, {origin['cpu_count']} logical processors, {origin['platform']}"),
            ("commit", commit + (" with changes" if origin.get("git_dirty") else "")),
            ("Python", origin["python"]),
            ("packages", ", ".join(f"{name} {version}" for name, version in origin["packages"].items())),
        ),
        failed=tuple((f["policy"], str(f["prompt"]), str(f["error"])) for f in document.get("failed", ())),
        config=json.dumps(config, indent=1, ensure_ascii=False),
    )


def _meter(meter: Mapping[str, Any] | None) -> str:
    """Return what joules come from."""
    if meter is None:
        return "modelled: watts times busy seconds"
    files = ", ".join(f"{end} {meter[end]}" for end in ("device", "basestation") if meter[end])
    what = ", ".join(meter["counters"]) or files or "no wall meter's file was laid over the run"
    whose = "device and base station are one machine, not told apart" if meter["shared"] else "each end apart"
    parts = [
        f"modelled, and measured by {meter['kind']}: {what}; {whose}",
        *(f"left out: {r}" for r in meter["unread"]),
    ]
    idle = {end: meter[f"idle_{end}_w"] for end in ("device", "basestation", "machine")}
    parts += [f"idle {end} {watts:.3g} W" for end, watts in idle.items() if watts is not None]
    return "; ".join(parts)


def _settings(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    decode, rules, link = config["decode"], config["rules"], config["link"]
    sampling = decode["sampling"]
    top_k = f"top-k {sampling['top_k']}" if sampling["top_k"] else "no top-k"
    radio, trace = link["radio"], link.get("trace")
    timing = ", ".join(f"{name} {value:g}" for name, value in config["timing"].items() if value is not None)
    return (
        ("sampling", f"temperature {sampling['temperature']:g}, {top_k}, top-p {sampling['top_p']:g}"),
        ("answers", f"at most {decode['max_tokens']} tokens, the end of text counted as one"),
        ("uncertainty", f"estimator {decode['estimator']}, θ_u = {rules['theta_u']:g} unless the row says other"),
        (
            "importance",
            f"readout {decode['readout']}, layer {'default' if config['layer'] is None else config['layer']}, "
            f"k = {rules['k']}, γ = {decode['gamma']:g} unless the row says other",
        ),
        ("other knobs", f"θ_c = {rules['theta_c']:g}, rate = {rules['rate']:g} unless the row says other"),
        ("codec", config["codec"]),
        (
            "link",
            f"trace {trace['path']} (sha256 {trace['sha256'][:12]}…), {trace['end']}; {link['devices']} device(s) in the cell"
            if trace is not None
            else "no radio"
            if radio is None
            else f"{radio['bandwidth_hz'] / 1e6:g} MHz, {radio['transmit_power_dbm']:g} dBm over "
            f"{radio['distance_m'] / 1e3:g} km, fading {link['fading']}, {link['devices']} device(s) in the cell",
        ),
        (
            "link delays",
            f"RTT {link['rtt_s']:g} s, grant {link['grant_delay_s']:g} s, airtime by {link['airtime']} bits",
        ),
        ("clock", f"{config['clock']}, compute times {'measured' if not timing else 'fixed: ' + timing}"),
        ("powers", ", ".join(f"{name} {value:.3g}" for name, value in config["joules"].items())),
    )
