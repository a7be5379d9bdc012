"""The commands of docs/add-a-rule.md and docs/leaderboard.md, run in order on a fake pair and few prompts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fake_pair import STOP, V, chatty, installed
from fakes import FakeDrafter
from uihlm_cli.device import main

DOCS = Path(__file__).parents[3] / "docs"
# What keeps it short. A flag on the page wins over these.
SMALL = {"UIHLM_TRACE_LIMIT": "8", "UIHLM_TRACE_MAX_TOKENS": "4", "UIHLM_TRACE_DATASET": "shipped"}


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("uihlm-device")]


@pytest.mark.parametrize("page", ["add-a-rule.md", "leaderboard.md"])
def test_commands_of_the_page_run(page, monkeypatch, tmp_path):
    weights = installed(monkeypatch, tmp_path)
    weights.for_policy = lambda rule: FakeDrafter(chatty(1), V, [STOP])
    # The examples are not shipped; the prompts that are stand in for them.
    shipped = Path(__file__).parents[3] / "evaluation" / "uihlm_evaluation" / "data" / "instructions.json"
    Path("alpaca_dev.json").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    (rule, *_) = re.findall(r"```python\n(.*?)```", (DOCS / "add-a-rule.md").read_text(encoding="utf-8"), re.DOTALL)
    Path("margin.py").write_text(rule)
    found = commands(page)
    assert {command[0] for command in found} == {"trace", "score"}
    for command in found:
        result = CliRunner(env=SMALL).invoke(main, command)
        assert result.exit_code == 0, (command, result.output)
