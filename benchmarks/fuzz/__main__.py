"""Does a base station stand what it is sent?   python -m benchmarks.fuzz --messages 10000000 --seed 1

Right, wrong, mutated and misplaced messages over loopback, many streams at once, beside a device that behaves. Every case has
a seed of its own: a failure prints the command that plays it again alone. `--first` goes on where another run ended. Exit
code 1 if anything was answered as it may not be, if the neighbour's tokens changed, or if the process grew.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.fuzz.campaign import HANG_S, Outcome, Settings, campaign
from benchmarks.fuzz.engine import TableEngine
from benchmarks.fuzz.growth import Holdings


def main() -> int:
    """Run and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="answered or refused")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="CASE", help="go on from this case")
    parser.add_argument("--case", type=int, help="play this one case alone")
    parser.add_argument("--at-once", type=int, default=8, help="cases side by side")
    parser.add_argument("--every-s", type=float, default=10.0, help="between two lines of progress")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    settings = Settings(options.messages, options.seed, options.first, None, options.at_once, options.every_s)
    if options.case is not None:
        settings = Settings(sys.maxsize, options.seed, options.case, options.case, 1, options.every_s)
    outcome = asyncio.run(campaign(settings, _progress, TableEngine()))
    faulthandler.cancel_dump_traceback_later()
    _summary(outcome, settings)
    if options.json:
        Path(options.json).write_text(json.dumps(_figures(outcome, settings), indent=1), encoding="utf-8")
    return 1 if outcome.failures else 0


def _progress(outcome: Outcome, so_far_s: float) -> None:
    # An event loop that stands still could not even time out: then the stacks of all threads are what is left to say.
    faulthandler.dump_traceback_later(3 * HANG_S, exit=True)
    tally = outcome.tally
    print(
        f"{so_far_s:8.0f} s  {tally.messages:12,} messages  {tally.messages / so_far_s:7,.0f}/s  {tally.cases:10,} cases  "
        f"{Holdings.now().rss_mib:6.1f} MiB  {len(outcome.failures)} failures",
        file=sys.stderr,
        flush=True,
    )


def _summary(outcome: Outcome, settings: Settings) -> None:
    tally = outcome.tally
    for (kind, status), count in sorted(tally.statuses.items()):
        print(f"{kind:40} {status:22} {count:12,}")
    print(
        f"{tally.messages:,} messages in {tally.cases:,} cases of seed {settings.seed}, {outcome.seconds:.1f} s, "
        f"{tally.messages / max(outcome.seconds, 1e-9):,.0f} messages/s; next case {outcome.next_case}"
    )
    print(f"the neighbour wrote {outcome.neighbour_answers:,} answers, each as if it were alone")
    if outcome.before is not None and outcome.after is not None:
        print(f"held when warm: {outcome.before}\nheld at the end: {outcome.after}")
    for failure in outcome.failures:
        print(f"FAILED {failure}")
    print("failed" if outcome.failures else "passed")


def _figures(outcome: Outcome, settings: Settings) -> dict[str, object]:
    return {
        "settings": asdict(settings),
        "messages": outcome.tally.messages,
        "cases": outcome.tally.cases,
        "seconds": outcome.seconds,
        "neighbour_answers": outcome.neighbour_answers,
        "statuses": {f"{kind} · {status}": count for (kind, status), count in sorted(outcome.tally.statuses.items())},
        "before": None if outcome.before is None else asdict(outcome.before),
        "after": None if outcome.after is None else asdict(outcome.after),
        "failures": outcome.failures,
    }


if __name__ == "__main__":
    sys.exit(main())
