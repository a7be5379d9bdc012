"""What a campaign found, as plain values: for a file, for adding up, and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.fuzz.campaign import Outcome, Settings

Figures = dict[str, Any]


def figures(outcome: Outcome, settings: Settings) -> Figures:
    """Return the figures of one process's campaign."""
    return {
        "seed": settings.seed,
        "messages": outcome.tally.messages,
        "cases": outcome.tally.cases,
        "next_case": outcome.next_case,
        "seconds": outcome.seconds,
        "neighbour_answers": outcome.neighbour_answers,
        "statuses": {f"{kind:40} {status}": n for (kind, status), n in sorted(outcome.tally.statuses.items())},
        "held": [(asdict(outcome.before), asdict(outcome.after))] if outcome.before and outcome.after else [],
        "failures": outcome.failures,
    }


def added(parts: Sequence[Figures]) -> Figures:
    """Return the figures of processes that ran side by side; whoever goes on begins where the slowest ended."""
    statuses: Counter[str] = Counter()
    for part in parts:
        statuses.update(part["statuses"])
    return {
        "seed": parts[0]["seed"],
        **{name: sum(part[name] for part in parts) for name in ("messages", "cases", "neighbour_answers")},
        "next_case": min(part["next_case"] for part in parts),
        "seconds": max(part["seconds"] for part in parts),
        "statuses": dict(sorted(statuses.items())),
        "held": [pair for part in parts for pair in part["held"]],
        "failures": [failure for part in parts for failure in part["failures"]],
    }


def summary(found: Figures) -> str:
    """Return what people read at the end."""
    seconds = max(found["seconds"], 1e-9)
    lines = [f"{what:64} {count:12,}" for what, count in found["statuses"].items()]
    lines.append(
        f"{found['messages']:,} messages in {found['cases']:,} cases of seed {found['seed']}, {seconds:.1f} s, "
        f"{found['messages'] / seconds:,.0f} messages/s; next case {found['next_case']}"
    )
    lines.append(f"the neighbour wrote {found['neighbour_answers']:,} answers, each as if it were alone")
    for before, after in found["held"]:
        told = (f"{name} {before[name]:,.0f} → {after[name]:,.0f}" for name in before)
        lines.append(f"held, warm → at the end: {', '.join(told)}")
    lines.extend(f"FAILED {failure}" for failure in found["failures"])
    lines.append("failed" if found["failures"] else "passed")
    return "\n".join(lines)
