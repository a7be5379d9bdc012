"""The pytest plugin, in a pytest of its own, as a project of somebody else would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

MODULE = "uihlm_evaluation.referee.plugin"
LOOPS = """
import numpy as np


def drawn(p, generator):
    return int(np.searchsorted(np.cumsum(p), generator.uniform() * p.sum()))


def loop(inverted):
    def decode(x, y, prompt, max_tokens, seed):
        generator, ids = np.random.default_rng(seed), list(prompt)
        for _ in range(max_tokens):
            p, q = y(ids), x(ids)
            d = drawn(q, generator)
            ratio = q[d] / p[d] if inverted else p[d] / q[d]
            ids.append(d if generator.uniform() < ratio else drawn(np.maximum(p - q, 0), generator))
        return ids[len(prompt):]
    return decode


def test_right(referee):
    assert referee(loop(False)).fair


def test_wrong(referee):
    referee(loop(True))


def test_looked_at(referee):
    assert referee.judge(loop(True), tokens=2000).defect == "acceptance ratio inverted"


def test_without():
    pass
"""

# The loop and the test that docs/referee.md tells its reader to write.
PAGE = Path(__file__).parents[3] / "docs" / "referee.md"
(SNIPPET,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(folder: Path, *arguments: str, text: str = LOOPS) -> subprocess.CompletedProcess[str]:
    (folder / "test_loops.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", MODULE, "-p", "no:cacheprovider", *arguments]
    # Named by its module, since an installation may or may not have registered it already.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return run(tmp_path_factory.mktemp("theirs"), "--referee-tokens", "3000")


def test_a_wrong_loop_fails_with_the_verdict_and_a_right_one_passes(done):
    assert "1 failed, 3 passed" in done.stdout and done.returncode == 1
    failure = done.stdout.partition("FAILURES")[2].partition("= referee =")[0]
    assert "NOT y-distributed: chi-square" in failure and "looks like: acceptance ratio inverted" in failure
    assert "Traceback" not in failure and "plugin.py" not in failure


def test_every_verdict_is_said_at_the_end(done):
    summary = done.stdout.partition("= referee =")[2]
    assert "test_loops.py::test_right: y-distributed: chi-square" in summary
    assert "test_loops.py::test_wrong: NOT y-distributed" in summary
    assert ", 3,000 tokens" in summary and ", 2,000 tokens" in summary
    assert "test_without" not in summary


def test_flags_are_in_the_help_and_seed_the_run(tmp_path):
    assert "--referee-tokens=N" in run(tmp_path, "--help").stdout
    said = [
        run(tmp_path, "-k", "right", "--referee-tokens", "500", "--referee-seed", seed).stdout for seed in ("1", "2")
    ]
    first, other = (re.search(r"test_right: y-distributed: chi-square (\S+) on .*, 500 tokens", text) for text in said)
    assert first and other and first[1] != other[1]


def test_pytest_finds_it_by_its_entry_point():
    (point,) = [point for point in entry_points(group="pytest11") if point.name == "uihlm.referee"]
    assert point.value == MODULE


def test_loading_it_imports_nothing_heavy():
    code = f"import {MODULE}, sys; print([n for n in ('numpy', 'scipy', 'grpc', 'torch') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_loop_of_the_page_passes(tmp_path):
    said = run(tmp_path, "--referee-tokens", "3000", text=SNIPPET).stdout
    assert "1 passed" in said and "test_my_loop_is_lossless: y-distributed" in said
