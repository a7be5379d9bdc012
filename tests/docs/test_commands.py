"""Every command of the documentation, in the order of its page: run small where it can be, parsed where it cannot.

What is run, on a fake pair or, slowly, on the bundled one, and what is parsed only and why, is said in
tests/page_commands.py; what parsing means, in tests/page_parsing.py. A page that is added is read without more ado.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from page_commands import slow, unrun
from page_parsing import check, flags, variables
from page_stations import ROOTS_VARIABLE, write_credentials
from pages import PAGES, ROOT, Command, commands, install_package, prose

TESTS = ROOT / "tests"
# Commands that no test runs, and why.
PARSED_ONLY = {
    "README.md: tox": "is the whole suite, this test in it",
}
# Pages with commands that take real weights, or Ray.
SLOW_PAGES = ["README.md", "docs/performance.md", "docs/scaling.md"]


def played(page: Path, folder: Path, pair: str) -> list[dict]:
    """Play a page in a process of its own, in a folder of its own."""
    package, here = folder / "package", folder / "here"
    package.mkdir()
    here.mkdir()
    install_package(page, package)
    roots = str(here / "roots.pem")
    paths = [str(package), str(TESTS), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HF_HUB_OFFLINE": "1",
        ROOTS_VARIABLE: roots,
    }
    asked = json.dumps({"page": str(page.relative_to(ROOT)), "pair": pair, "roots": roots})
    result = subprocess.run(
        [sys.executable, "-m", "page_commands"],
        input=asked, capture_output=True, text=True, env=environment, cwd=here, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout)


def wrong(page: Path, folder: Path, pair: str) -> list[str]:
    """Play a page and return what was wrong with which of its commands."""
    done = played(page, folder, pair)
    assert done, f"no command of {page.name} was looked at"
    for entry in done:
        kind = "run   " if entry["parsed_only"] is None else "parsed"
        print(f"{kind} {entry['took_s']:6.1f} s", entry["command"], entry["parsed_only"] or "")
    return [f"{entry['command']}: {entry['failure']}" for entry in done if entry["failure"]]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_command_of_the_page_is_right(page, tmp_path):
    assert wrong(page, tmp_path, "fake") == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", SLOW_PAGES)
def test_what_takes_real_weights_or_ray_runs_with_them(page, tmp_path):
    """And the commands of the README that take least."""
    assert wrong(ROOT / page, tmp_path, "bundled") == []


def test_nothing_is_parsed_only_but_what_is_stated_here():
    """A new command that no test runs is to be noticed."""
    every = [(page, command) for page in PAGES for command in commands(page)]
    unplayed = {f"{page.relative_to(ROOT)}: {shlex.join(command.words)}" for page, command in every if unrun(command)}
    assert unplayed == PARSED_ONLY.keys()
    slow_pages = {str(page.relative_to(ROOT)) for page, command in every if slow(command)}
    assert slow_pages | {"README.md"} == set(SLOW_PAGES)
    assert len(every) > 130, "the pages have more commands than that"


def test_authorities_that_the_machine_believes_are_left_alone(tmp_path, monkeypatch):
    machine, roots = tmp_path / "machine.pem", tmp_path / "roots.pem"
    machine.write_text("what was there")
    monkeypatch.setenv(ROOTS_VARIABLE, str(machine))
    for given in (None, roots):
        write_credentials(tmp_path, given)
        assert machine.read_text() == "what was there"
    assert roots.read_text() == (tmp_path / "ca.pem").read_text()


def test_environment_variables_in_the_text_are_read():
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"\bUIHLM_[A-Z_]+[A-Z]\b", page.read_text(encoding="utf-8"))
    }
    assert named
    assert {name for _, name in named} <= variables(), sorted(named)


def test_flags_in_the_text_exist():
    """Of this project's commands, benchmarks and pytest plugin; in code that begins with another program nobody looks."""
    known = flags()
    for folder in ("benchmarks", "evaluation"):
        for path in (ROOT / folder).rglob("*.py"):
            known |= set(re.findall(r"[\"'](--[a-z][a-z0-9-]*)[\"']", path.read_text(encoding="utf-8")))
    named = {
        (page.name, flag)
        for page in PAGES
        for code in re.findall(r"`((?:-|uihlm-|python -m benchmarks|chat |eval |serve )[^`]+)`", prose(page))
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code)
    }
    assert len(named) > 50
    assert not {(page, flag) for page, flag in named if flag not in known}


WRONG = [
    "uihlm-device evaluate",
    "uihlm-device eval --polcy hlm",
    "uihlm-device chat --policy none",
    "uihlm-device eval --limit 0",
    "uihlm-device eval --codec dense8",
    "uihlm-device score u",
    "uihlm-bs serve --backend other",
    "UIHLM_EVAL_THETA=0.4 uihlm-device eval",
    "python -m benchmarks.nothing",
    "python -m benchmarks.round --no-such-flag",
    "python docs/figures/nothing.py",
    "python -c 'print('",
    "pip install 'uihlm[everything]'",
    "pip install -c nothing.txt tox",
    "tox -e nothing",
    "docker compose run --rm device-z uihlm-device chat",
    "docker compose exec basestation uihlm-bs topp",
    "uihlm-devise chat",
]


@pytest.mark.parametrize("line", WRONG)
def test_a_command_that_does_not_exist_is_found(line, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"```sh\n{line}\n```\n", encoding="utf-8")
    (command,) = commands(page)
    assert check(command) is not None


def test_lines_are_read_as_a_shell_reads_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "One `uihlm-bs\ntop --once` in a line, `uihlm-device chat --policy …` cut short.\n"
        "```sh\nA=1 one -x 'a b'  # remark\ntwo < in > out 2>&1 && three | four \\\n  --five\n"
        "six <<EOF\nnot a command\nEOF\n```\n```console\n$ seven\noutput\n```\n```python\neight\n```\n",
        encoding="utf-8",
    )
    one = Command("page.md", 4, ("one", "-x", "a b"), (("A", "1"),))
    assert commands(page) == [
        one,
        Command("page.md", 5, ("two",)),
        Command("page.md", 5, ("three",)),
        Command("page.md", 5, ("four", "--five")),
        Command("page.md", 7, ("six",)),
        Command("page.md", 12, ("seven",)),
        Command("page.md", 1, ("uihlm-bs", "top", "--once"), fenced=False),
    ]
