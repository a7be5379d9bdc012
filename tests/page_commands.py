"""Runs or parses the commands of one page, in order, in a process of its own: `python -m page_commands`, JSON in and out.

In: {"page": path, "pair": "fake" or "bundled", "roots": the file that ROOTS_VARIABLE names}; the working directory is the
test's. Out: one object a command, with what was done with it and, where it failed, why. A page that shows a package has it
installed before its commands run.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path

import page_benchmarks
import page_endpoints
import page_others
import page_ours
from page_pairs import bundled_pair, fake_pair
from page_parsing import PROGRAMS, check
from page_stations import Stations, write_credentials
from pages import PAGES, ROOT, Command, commands, write_named_modules

# With real weights these alone, of the README: the others have slow tests of their own.
QUICK = ("chat", "eval", "plan", "trace", "score", "serve")
# Why a command of another program is parsed only.
OTHERS = {"tox": "is the whole suite, this test in it: CI runs it (.ci/run)"}
KNOWN = ("chmod", "curl", "docker", "llm", "pip", "python")
# Data that pages name and nobody may ship: the prompts that are shipped stand in.
PROMPTS = ("alpaca_dev.json", "DATA.json", "DATA")
SLOW = "takes real weights, or Ray: the slow test runs it"


def unrun(command: Command) -> str | None:
    """Why no test runs a command; None if one does."""
    if command.program in PROGRAMS:
        lacking = None if command.fenced else page_ours.lacks(command)
        if lacking is not None:
            return f"names the command in a sentence, without what it needs: {lacking}"
        return None if command.words[:2] in page_ours.SMALL else "has no small run"
    if page_benchmarks.name_of(command) is not None:
        return page_benchmarks.unrun(command)
    if command.program in OTHERS:
        return OTHERS[command.program]
    return None if command.program in KNOWN else "is a program that no test runs"


def missing(command: Command) -> str | None:
    """What this machine lacks to run it; None if nothing."""
    if command.program in ("curl", "llm"):
        return page_endpoints.missing(command)
    return page_ours.missing(command) if command.program in PROGRAMS else page_others.missing(command)


def slow(command: Command) -> bool:
    """Whether only the slow test runs it."""
    return "--dtype" in command.words or page_ours.pooled(command) or page_benchmarks.slow(command)


def plan(command: Command, pair: str) -> str | None:
    """Why a command is parsed only on a pair; None if it is run."""
    reason = unrun(command) or missing(command)
    if reason is not None or pair == "fake":
        return reason or (SLOW if slow(command) else None)
    if slow(command) or (command.page == "README.md" and command.fenced and command.words[1] in QUICK):
        return None
    return "runs on the fake pair"


def run(command: Command, stations: Stations) -> str | None:
    """Run a command small; what went wrong, if anything."""
    if command.program in PROGRAMS:
        return page_ours.run(command, stations)
    if command.program in ("curl", "llm"):
        return page_endpoints.run(command)
    if page_benchmarks.name_of(command) is not None:
        return page_benchmarks.run(command)
    return page_others.run(command, stations)


def stand_ins(page: Path, roots: Path | None) -> None:
    """Write the files that pages speak of and a reader would bring: data, credentials, the page's own Python files."""
    write_named_modules(page, Path.cwd())
    write_credentials(Path.cwd(), roots)
    shipped = ROOT / "evaluation" / "uihlm_evaluation" / "data" / "instructions.json"
    for name in PROMPTS:
        shutil.copy(shipped, name)
    # Recorded links, in both forms.
    for name in ("drive.csv", "walk.csv"):
        Path(name).write_text("0,2e6\n1,5e5\n")
    for name in ("drive.up", "ATT-LTE-driving.up"):
        Path(name).write_text("".join(f"{5 * n}\n" for n in range(1, 200)))
    # Wall meters, read each second since before these commands and until after them.
    for name in ("wall.csv", "rack.csv"):
        lines = "".join(f"{time.time() + n:.3f},9\n" for n in range(-60, 1800))
        Path(name).write_text("time,watts\n" + lines)


def main() -> None:
    """Read what to do, do it, say what came of it."""
    wanted = json.load(sys.stdin)
    (page,) = [page for page in PAGES if str(page.relative_to(ROOT)) == wanted["page"]]
    done = []
    with {"fake": fake_pair, "bundled": bundled_pair}[wanted["pair"]]() as engines, Stations(engines) as stations:
        stand_ins(page, Path(wanted["roots"]) if "roots" in wanted else None)
        for command in commands(page):
            reason = plan(command, wanted["pair"])
            began_s = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):
                failure = check(command) or (None if reason else run(command, stations))
            took_s = time.perf_counter() - began_s
            done.append({"command": str(command), "parsed_only": reason, "failure": failure, "took_s": took_s})
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
