"""Runs what pages name of other programs: a line of Python, the scripts behind pictures, `chmod`, `pip`, `docker compose`.

A container engine is nowhere run: for `docker compose` it is what compose.yaml has the services run, in this process and
small, with the services' names leading to loopback. The image, its network and its limits are not tried.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import yaml

import page_ours
from page_stations import Stations
from pages import ROOT, Command

PATIENCE_S = 300
# With everything there already; nothing is fetched, and nothing is changed.
DRY = ("--dry-run", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
# Their own pictures are in the repository: their folder is copied, and what they draw is held against those.
FIGURES = "docs/figures"


def missing(command: Command) -> str | None:
    """Why a command cannot run on this machine; None if it can."""
    if command.program == "pip":
        lacking = [name for name in ("pip", "setuptools", "grpc_tools") if find_spec(name) is None]
        return f"{lacking[0]} is not installed here, and `.ci/run` installs in earnest" if lacking else None
    return None


def run(command: Command, stations: Stations) -> str | None:
    """Run a command; what went wrong, if anything."""
    if command.program == "docker":
        return _composed(command, stations)
    if command.program == "pip":
        return _done([sys.executable, "-m", *command.words, *DRY], ROOT)
    if command.program == "chmod":
        return _done(list(command.words), Path.cwd())
    if command.words[1].startswith(FIGURES):
        return _drawn(Path(command.words[1]))
    return _done([sys.executable, *command.words[1:]], Path.cwd(), says=True)


def _done(words: list[str], folder: Path, says: bool = False) -> str | None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, timeout=PATIENCE_S)
    if done.returncode or (says and not done.stdout.strip()):
        return f"exit code {done.returncode}: {done.stdout[-400:]}{done.stderr[-800:]}"
    return None


def _drawn(script: Path) -> str | None:
    shutil.copytree(ROOT / FIGURES, FIGURES, dirs_exist_ok=True)
    picture = script.with_suffix(".svg")
    picture.unlink()
    return _done([sys.executable, str(script)], Path.cwd()) or (None if picture.stat().st_size else "nothing was drawn")


def _composed(command: Command, stations: Stations) -> str | None:
    """What the engine would have the services run."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    verb, *rest = command.words[2:]
    if verb == "up":
        lines = [service["command"] for service in services.values()]
    else:
        named = next(place for place, word in enumerate(rest) if word in services)
        lines = [rest[named + 1 :]]
    failures = []
    for words in lines:
        # `--flag=value` as two words, folders of volumes as folders here.
        apart = [part.removeprefix("/") for word in words for part in word.split("=", 1)]
        failures.append(page_ours.run(Command(command.page, command.line, tuple(apart)), stations))
    return "; ".join(filter(None, failures)) or None
