"""Runs or parses the commands of one page, in order, in a process of its own: `python -m page_commands`, JSON in and out.

In: {"page": path, "pair": "fake" or "bundled"}; the working directory is the test's. Out: one object a command, with what
was done with it and, where it failed, why. A page that shows a package has it installed before its commands run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from certificates import Authority
from fake_counters import FakeMachine, install_zeus
from fake_pair import STOP, V, chatty, installed
from fakes import FakeDrafter
from page_parsing import PROGRAMS, check
from pages import PAGES, ROOT, Command, commands, write_named_modules

# What makes each command small: given last, so it wins over the page. A command that is not here is parsed only.
SMALL: dict[tuple[str, str], tuple[str, ...]] = {
    ("uihlm-device", "chat"): ("--max-tokens", "6"),
    ("uihlm-device", "eval"): ("--limit", "1", "--max-tokens", "6", "--no-metrics"),
    ("uihlm-device", "sweep"): ("--limit", "2", "--max-tokens", "4", "--no-metrics", "--jobs", "1"),
    ("uihlm-device", "calibrate"): ("--limit", "8", "--max-tokens", "8", "--no-plots"),
    ("uihlm-device", "trace"): ("--limit", "8", "--max-tokens", "4"),
    ("uihlm-device", "score"): (),
    ("uihlm-device", "rebill"): (),
    ("uihlm-device", "joules"): (),
    ("uihlm-device", "report"): (),
    ("uihlm-device", "plan"): (),
    ("uihlm-device", "serve"): ("--port", "0"),
    ("uihlm-bs", "serve"): ("--port", "0"),
    ("uihlm-bs", "health"): (),
    **{(program, flag): () for program in ("uihlm-bs", "uihlm-device") for flag in ("--help", "--version")},
}
# With real weights these alone: the others have slow tests of their own.
QUICK = ("chat", "eval", "plan", "trace", "score", "serve")
# Why a command of the table above is parsed only.
UNRUN: list[tuple[Callable[[Command], bool], str]] = [
    (lambda command: not command.fenced, "stands in a sentence, out of its place"),
    (lambda command: "--engine-pool" in command.words, "needs Ray, which CI does not have"),
    (
        lambda command: "--learn" in command.words,
        "needs a pair that rejects what is uncertain (test_calibrate_learn.py)",
    ),
    (lambda command: "--measure" in command.words, "times real weights for minutes"),
    (lambda command: "--tls" in command.words or "--tls-ca" in command.words, "needs another machine's certificate"),
]
# Why a command of another program is parsed only; "none of our programs" where it is not told here.
OTHERS = {
    "pip": "installs",
    "tox": "runs every test",
    "pytest": "runs tests",
    "docker": "needs a container engine",
    "python": "takes minutes to hours, or is a line of Python",
}
# Data that pages name and nobody may ship: the prompts that are shipped stand in.
PROMPTS = ("alpaca_dev.json", "DATA.json")


def plan(command: Command, pair: str) -> str | None:
    """Why a command is parsed only; None if it is run."""
    if command.program not in PROGRAMS:
        return OTHERS.get(command.program, "none of our programs")
    if command.words[:2] not in SMALL:
        return "has no small run"
    if pair == "bundled" and command.words[1] not in QUICK:
        return "takes too long with real weights"
    return next((reason for applies, reason in UNRUN if applies(command)), None)


def run(command: Command, address: str) -> str | None:
    """Run a command small; what went wrong, if anything."""
    befores = ("", *command.words[:-1])
    words = [address if before == "--server" else word for before, word in zip(befores, command.words, strict=True)]
    arguments = [*words[1:], *SMALL[command.words[:2]]]
    if words[1] == "health" and "--server" not in words:
        arguments += ["--server", address]
    if words[1] == "eval" and "--output" not in words:
        # Folders are named after the second, and these runs take less.
        arguments += ["--output", f"runs/line-{command.line}"]
    result = CliRunner(env=dict(command.environment)).invoke(PROGRAMS[command.program], arguments, input="Say hello.\n")
    if result.exit_code == 0:
        return None
    return f"exit code {result.exit_code}: {result.output[-800:]}{result.exception!r}"


@contextlib.contextmanager
def fake_pair() -> Iterator[str]:
    """Fake weights below everything, and the address of a base station that has them; `serve` ends once it is ready."""
    from uihlm_basestation.local import local_basestation
    from uihlm_cli.station import serve as serve_command
    from uihlm_device.endpoint import server as endpoint

    with pytest.MonkeyPatch.context() as patch:
        weights = installed(patch, Path.cwd())
        # Few machines have counters, and a container none.
        install_zeus(patch, FakeMachine(gpus=(2.0,)))
        # One drafter that records whatever it is asked for.
        weights.for_policy = lambda rule: FakeDrafter(chatty(1), V, [STOP])
        patch.setattr(serve_command, "resolve", weights.resolve)
        patch.setattr(serve_command, "load_engine", weights.engine)
        patch.setattr(serve_command, "serve", until_ready(serve_command.serve))
        patch.setattr(endpoint, "serve", endpoint_until_ready(endpoint.serve))
        with local_basestation(weights.engine()) as address:
            yield str(address)


@contextlib.contextmanager
def bundled_pair() -> Iterator[str]:
    """The real weights."""
    from uihlm_basestation.engines.loading import load_engine
    from uihlm_basestation.local import local_basestation
    from uihlm_cli.station import serve as serve_command
    from uihlm_device.endpoint import server as endpoint
    from uihlm_models.presets import Role
    from uihlm_models.sources import resolve

    with pytest.MonkeyPatch.context() as patch:
        install_zeus(patch, FakeMachine(gpus=(2.0,)))
        patch.setattr(serve_command, "serve", until_ready(serve_command.serve))
        patch.setattr(endpoint, "serve", endpoint_until_ready(endpoint.serve))
        with local_basestation(load_engine(resolve("bundled", Role.TARGET))) as address:
            yield str(address)


def until_ready(serve: Callable[..., Any]) -> Callable[..., Any]:
    """The same server, which is told to stop as soon as it is ready."""

    def served(*arguments: Any, **named: Any) -> Any:
        *others, on_ready, telemetry, reflection = arguments

        def ready(address: object) -> None:
            on_ready(address)
            os.kill(os.getpid(), signal.SIGTERM)

        return serve(*others, ready, telemetry, reflection, **named)

    return served


def endpoint_until_ready(serve: Callable[..., None]) -> Callable[..., None]:
    """The device's endpoint, likewise."""

    def served(completer: Any, listening: Any, on_ready: Callable[[str], None]) -> None:
        def ready(address: str) -> None:
            on_ready(address)
            os.kill(os.getpid(), signal.SIGTERM)

        serve(completer, listening, ready)

    return served


def stand_ins(page: Path) -> None:
    """Write the files that pages speak of and a reader would bring: data, credentials, the page's own Python files."""
    write_named_modules(page, Path.cwd())
    shipped = ROOT / "evaluation" / "uihlm_evaluation" / "data" / "instructions.json"
    for name in PROMPTS:
        shutil.copy(shipped, name)
    # A recorded link, in both forms.
    Path("drive.csv").write_text("0,2e6\n1,5e5\n")
    Path("drive.up").write_text("".join(f"{5 * n}\n" for n in range(1, 200)))
    # A wall meter, read each second since before these commands and until after them.
    Path("wall.csv").write_text("time,watts\n" + "".join(f"{time.time() + n:.3f},9\n" for n in range(-60, 1800)))
    authority = Authority(Path.cwd(), "devices-ca")
    pem = authority.issue("localhost")
    pem.certificate.rename("bs.pem")
    pem.key.rename("bs.key")
    Path("tokens.txt").write_text("0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\n")
    Path("tokens.txt").chmod(0o600)


def main() -> None:
    """Read what to do, do it, say what came of it."""
    wanted = json.load(sys.stdin)
    (page,) = [page for page in PAGES if str(page.relative_to(ROOT)) == wanted["page"]]
    done = []
    with {"fake": fake_pair, "bundled": bundled_pair}[wanted["pair"]]() as address:
        stand_ins(page)
        for command in commands(page):
            reason = plan(command, wanted["pair"])
            with contextlib.redirect_stdout(sys.stderr):
                failure = check(command) or (None if reason else run(command, address))
            done.append({"command": str(command), "parsed_only": reason, "failure": failure})
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
