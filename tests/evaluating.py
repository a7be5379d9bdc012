"""`uihlm-device eval` through the real assembly, loop, client and server; only the weights are fakes."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from fake_pair import V
from uihlm_cli.device import main

DENSE_BIT = 32 * V
TIMED = ("--draft-time-s", "0.01", "--forward-time-s", "0.02")
# What the base station's own stopwatch says: no two runs agree on it, whatever the clock is charged.
MEASURED = {"forward_s", "queue_s", "bs_busy_s", "basestation_j"}
PROMPTS = [
    {"instruction": "Name a river.", "input": "", "output": "The Elbe."},
    {"instruction": "Sum up.", "input": "A long text.", "output": "Short."},
    {"instruction": "Say hello.", "output": ""},
]


def prompts_file(folder: Path) -> str:
    """The path of a data set of these prompts, which is written."""
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return str(path)


def evaluate(*arguments: object, **environment: str) -> Result:
    """Run the command; short answers, no encoder, and the folder `run` unless the arguments say otherwise."""
    usual = ["--max-tokens", "8", "--no-metrics", "--output", "run"]
    result = CliRunner(env=environment).invoke(main, ["eval", *usual, *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: object, **environment: str) -> Result:
    result = evaluate(*arguments, **environment)
    assert result.exit_code == 0, result.output
    return result


def lines(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def fixed(path: str | Path) -> list[dict]:
    """The lines of a file without what the base station's stopwatch measured."""
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines(path)]


def results(folder: str = "run") -> dict:
    return json.loads(Path(folder, "results.json").read_text())


def by_policy(folder: str = "run") -> dict[str, dict]:
    return {entry["policy"]: entry for entry in results(folder)["policies"]}
