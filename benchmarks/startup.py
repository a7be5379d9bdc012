"""How soon does it answer, and how large is it?   python -m benchmarks.startup

    --help               wall seconds of `uihlm-device --help` and `uihlm-bs --help`, a fresh process each; of the
                         processor too, which other work does not stretch
    first token          `uihlm-device chat` from a fresh process, its own base station included, to the first letter
    base install         megabytes of wheels that `pip install uihlm` fetches, without any extra

Fresh processes, not a fresh machine: the files are in the page cache after the first. The wheels are downloaded with pip into
a folder that is deleted again; without a package registry that figure is left out, with a word.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import findings as report
from benchmarks.findings import Finding

HELP_GOAL_S = 0.3
FIRST_TOKEN_GOAL_S = 5.0
WHEELS_GOAL_MB = 60.0
QUESTION = "Why is the sky blue?"
_ROOT = Path(__file__).resolve().parents[1]
_PIP_TIMEOUT_S = 300


def _command(program: str) -> str:
    beside = Path(sys.executable).parent / program
    return str(beside) if beside.is_file() else program


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def help_seconds(program: str, turns: int) -> tuple[list[float], list[float]]:
    """Return the seconds of `--help`, of the wall and of the processor, the first run left out."""
    wall, cpu = [], []
    for _ in range(turns + 1):
        began_s, began_cpu_s = time.perf_counter(), _children_s()
        subprocess.run([_command(program), "--help"], check=True, capture_output=True)
        wall.append(time.perf_counter() - began_s)
        cpu.append(_children_s() - began_cpu_s)
    return wall[1:], cpu[1:]


def first_token_seconds(arguments: Sequence[str] = ()) -> float:
    """Return the wall seconds from starting `chat` to the first letter of its answer."""
    began_s = time.perf_counter()
    # Unbuffered, as on a terminal: the first letter must not wait in the pipe for the others.
    command = [_command("uihlm-device"), "chat", QUESTION, "--max-tokens", "8", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        while (letter := process.stdout.read(1)).isspace():
            """Nothing of the answer yet."""
        took_s = time.perf_counter() - began_s
        process.stdout.read()
        said = process.stderr.read().decode("utf-8", "replace")
    if not letter or process.returncode:
        raise RuntimeError(f"chat said nothing and ended with {process.returncode}: {said[-500:]}")
    return took_s


def base_requirements() -> list[str]:
    """Return what the project's base install asks for."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements: list[str] = project["dependencies"]
    return requirements


def wheels() -> dict[str, int]:
    """Return the bytes of each wheel of the base install, all dependencies included.

    Raises:
        OSError: if pip cannot fetch them.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary", ":all:", "--no-cache-dir", "--dest", folder]
        command += ["--constraint", str(_ROOT / "constraints.txt"), *base_requirements()]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"pip was not done after {_PIP_TIMEOUT_S} s") from error
        if done.returncode:
            raise OSError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
        return {path.name: path.stat().st_size for path in sorted(Path(folder).iterdir())}


def main() -> None:
    """Measure and print; --json writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9, help="of --help")
    parser.add_argument("--chats", type=int, default=5)
    parser.add_argument("--no-download", action="store_true", help="leave the wheels out")
    parser.add_argument("--quick", action="store_true", help="fewer turns: a look, not a measurement")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    turns, chats = (3, 2) if options.quick else (options.turns, options.chats)
    found = []
    for program in ("uihlm-device", "uihlm-bs"):
        wall, cpu = help_seconds(program, turns)
        found.append(Finding.of(f"{program} --help", wall, "s", HELP_GOAL_S, at_most=True))
        found.append(Finding.of(f"{program} --help, of the processor", cpu, "s"))
    first = [first_token_seconds() for _ in range(chats)]
    found.append(Finding.of("chat: first token from a cold start", first, "s", FIRST_TOKEN_GOAL_S, at_most=True))
    more: dict[str, Any] = {}
    if not options.no_download:
        try:
            more["wheels_bytes"] = wheels()
        except OSError as error:
            print(f"wheels not measured: {error}", file=sys.stderr)
        else:
            size_mb = sum(more["wheels_bytes"].values()) / 1e6
            found.append(Finding("base install: wheels", size_mb, size_mb, size_mb, "MB", WHEELS_GOAL_MB, at_most=True))
    print(report.table(found))
    for name, size in sorted(more.get("wheels_bytes", {}).items(), key=lambda entry: -entry[1])[:8]:
        print(f"  {size / 1e6:6.2f} MB  {name}")
    if options.json:
        report.write(options.json, found, more)


if __name__ == "__main__":
    main()
