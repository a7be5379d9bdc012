"""Runs one benchmark of a page small: in this process where fake weights can stand in, else in one of its own, slowly.

None of them ends with 1 because a goal was missed, so an exit code of 0 is asked of all, and a report on stdout.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from page_parsing import PROGRAMS
from pages import ROOT, Command

PATIENCE_S = 1500


@dataclass(frozen=True)
class Small:
    """How a benchmark is made small.

    Attributes:
        flags: given last, so they win over the page.
        real: whether it takes real weights; then it runs in a process of its own, slowly.
        apart: whether it runs in a process of its own for another reason; else the pair's stand in, in this one.
    """

    flags: tuple[str, ...]
    real: bool = False
    apart: bool = False


# Two threads that meet another process on two cores slow one another several times.
ONE = ("--threads", "1")
SMALL = {
    "": Small(("--quick", *ONE), real=True),
    "assisted_generation": Small(("--tokens", "60", "--way", "one draft a round")),
    "cell overhead": Small(("--sessions", "2", "--seconds", "0.2", "--batching", "on"), apart=True),
    "cell llm": Small(("--sessions", "1", "--seconds", "0.5", "--batching", "on", *ONE), real=True),
    "cell capacity": Small(
        ("--seconds", "0.5", "--tries", "1", "--rate", "60", "--policies", "llm", "--blocks", "1", *ONE), real=True
    ),
    "device_loop": Small(("--repetitions", "1", "--tokens", "16", *ONE), real=True),
    "fuzz": Small(("--messages", "300")),
    "links": Small(()),
    "peers": Small(
        ("--prompts", "1", "--tokens", "10", "--slow-prompts", "1", "--slow-tokens", "4", "--turns", "2", *ONE),
        real=True,
    ),
    "plan": Small(("--prompts", "1", "--tokens", "6")),
    "real_size": Small(("--tiny", "--device", "cpu", "--context", "24", "--turns", "2")),
    "round": Small(("--repetitions", "1", "--rounds", "3")),
    "startup": Small(("--turns", "1", "--chats", "1", "--no-download"), real=True),
    "tiny_llama": Small(("--tiny", "--turns", "2"), apart=True),
    "uplink": Small(("--prompts", "1", "--tokens", "6", "--weights", "auto")),
    "weights": Small(("--quick", "--no-torch", *ONE), real=True),
}


def name_of(command: Command) -> str | None:
    """The benchmark of `python -m benchmarks…`, with its verb; None of another command."""
    if command.words[:2] != ("python", "-m") or not command.words[2].startswith("benchmarks"):
        return None
    name = command.words[2].removeprefix("benchmarks").removeprefix(".")
    return f"{name} {completed(command)[3]}" if name == "cell" else name


def completed(command: Command) -> tuple[str, ...]:
    """The words, with what a sentence that only names a benchmark leaves out: its data, its verb."""
    more = {"uplink": ("DATA.json",), "plan": ("DATA.json",), "cell": ("overhead",)}
    named = command.words[2].removeprefix("benchmarks.")
    bare = not command.fenced and len(command.words) == 3
    return (*command.words, *(more.get(named, ()) if bare else ()))


def unrun(command: Command) -> str | None:
    """Why no test runs it; None if one does."""
    return None if name_of(command) in SMALL else "has no small run"


def slow(command: Command) -> bool:
    """Whether it takes real weights."""
    name = name_of(command)
    return name in SMALL and SMALL[name].real


def run(command: Command) -> str | None:
    """Run a benchmark small; what went wrong, if anything."""
    name = name_of(command)
    assert name is not None
    if name == "links":
        # The study's run is of hours; this one is scored as well.
        asked = "eval --policy llm --policy hlm --limit 1 --max-tokens 6 --metrics --output runs/table1"
        made = CliRunner().invoke(PROGRAMS["uihlm-device"], asked.split())
        if made.exit_code:
            return made.output[-800:]
    words = [*completed(command)[3:], *SMALL[name].flags]
    if "--case" in words:
        words = list(command.words[3:])
    if not name:
        # Each figure's benchmark runs by itself; of the run of all it is shown that it starts one and reads what that wrote.
        words = ["round" if before == "--only" else word for before, word in zip(["", *words], words, strict=False)]
        words += [] if "--only" in words else ["--only", "round"]
    if "--figures" in words:
        Path(words[words.index("--figures") + 1]).mkdir(parents=True, exist_ok=True)
    if name == "uplink" and command.page != "uplink.md":
        # Every way, and the claims, on its own page alone.
        words += ["--only", "coupled", "--only", "tree 4"]
    if SMALL[name].real or SMALL[name].apart:
        return _apart(command.words[2], words)
    return _here(command.words[2], words)


def _apart(module: str, words: list[str]) -> str | None:
    # Wheels are not fetched: start-up says that it leaves them out.
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE_S,
    )  # fmt: skip
    return _judged(done.returncode, done.stdout, done.stderr)


def _here(module: str, words: list[str]) -> str | None:
    """Run it on the weights that stand in for all others in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [module, *words])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            code = ended.code or 0
        except Exception:
            code = traceback.format_exc()
    return _judged(code, out.getvalue(), err.getvalue())


def _judged(code: object, out: str, err: str) -> str | None:
    if code == 0 and out.strip():
        return None
    return f"exit code {code}: {out[-400:]!r} {err[-800:]}"
