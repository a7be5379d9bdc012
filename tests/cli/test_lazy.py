"""Groups whose commands are imported when they are asked for: `--help` stays quick."""

import json
import resource
import subprocess
import sys

import click
import pytest

from uihlm_cli.lazy import LazyGroup

# CPU seconds, which a busy machine does not stretch as it does wall time; the goal of 0.3 s is wall time on an idle one
# (python -m benchmarks.startup).
MOST_CPU_S = 0.3


def test_a_command_is_looked_up_by_name_and_no_other_is_known():
    group = LazyGroup("g", commands_in={"report": ("uihlm_cli.runs.report", "Help.")})
    context = click.Context(group)
    assert group.list_commands(context) == ["report"]
    assert group.get_command(context, "report").name == "report"
    assert group.get_command(context, "cook") is None


@pytest.mark.parametrize("program", ["device", "basestation"])
def test_help_imports_nothing_that_computes(program):
    probe = (
        f"import json, sys\nfrom click.testing import CliRunner\nfrom uihlm_cli.{program} import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "print(json.dumps([name for name in ('numpy', 'grpc', 'asyncio', 'rich', 'torch') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("program", ["device", "basestation"])
def test_help_takes_little(program):
    command = [sys.executable, "-c", f"from uihlm_cli.{program} import main; main(['--help'])"]
    subprocess.run(command, capture_output=True, check=True)  # writes the byte code
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert took_s < MOST_CPU_S, f"--help took {took_s:.2f} s of CPU"
