"""Does a base station stand what it is sent?   python -m benchmarks.fuzz --messages 10000000 --seed 1

Right, wrong, mutated and misplaced messages over loopback, many streams at once, beside a device that behaves. Every case has
a seed of its own: a failure prints the command that plays it again alone. `--first` goes on where another run ended, `--jobs`
plays the cases in turn in so many processes. Exit code 1 if anything was answered as it may not be, if the neighbour's tokens
changed, or if a process grew.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import sys
from functools import partial
from pathlib import Path

from benchmarks.fuzz.campaign import HANG_S, Outcome, Settings, campaign
from benchmarks.fuzz.engine import TableEngine
from benchmarks.fuzz.figures import Figures, added, figures, summary
from benchmarks.fuzz.growth import Holdings
from benchmarks.fuzz.jobs import side_by_side
from uihlm_proto.loops import new_event_loop


def main() -> int:
    """Run and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="answered or refused")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="CASE", help="go on from this case")
    parser.add_argument("--stride", type=int, default=1, help="play every so manieth case")
    parser.add_argument("--case", type=int, help="play this one case alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--at-once", type=int, default=8, help="cases side by side in a process")
    parser.add_argument("--every-s", type=float, default=10.0, help="between two lines of progress")
    parser.add_argument(
        "--hang-s", type=float, default=HANG_S, help="a case that takes longer hangs; more beside other work"
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    patience = options.every_s, options.hang_s
    if options.case is not None:
        found = played(Settings(sys.maxsize, options.seed, options.case, 1, options.case, 1, *patience))
    elif options.jobs == 1:
        first, stride = options.first, options.stride
        found = played(Settings(options.messages, options.seed, first, stride, None, options.at_once, *patience))
    else:
        arguments = ["--seed", options.seed, "--at-once", options.at_once]
        arguments += ["--every-s", options.every_s, "--hang-s", options.hang_s]
        found = added(side_by_side(options.jobs, options.messages, options.first, arguments))
    print(summary(found))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 1 if found["failures"] else 0


def played(settings: Settings) -> Figures:
    """Run one campaign in this process."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        outcome = runner.run(campaign(settings, partial(_progress, settings.hang_s), TableEngine()))
    faulthandler.cancel_dump_traceback_later()
    return figures(outcome, settings)


def _progress(hang_s: float, outcome: Outcome, so_far_s: float) -> None:
    # An event loop that stands still could not even time out: then the stacks of all threads are what is left to say.
    faulthandler.dump_traceback_later(3 * hang_s, exit=True)
    tally = outcome.tally
    print(
        f"{so_far_s:8.0f} s  {tally.messages:12,} messages  {tally.messages / so_far_s:7,.0f}/s  next case "
        f"{outcome.next_case:10,}  {Holdings.now().rss_mib:6.1f} MiB  {len(outcome.failures)} failures",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
