"""`uihlm-device report`: what it prints, and what it refuses."""

import json

import pytest
from click.testing import CliRunner

from uihlm_cli.device import main


def report(*arguments):
    return CliRunner().invoke(main, ["report", *arguments])


def test_paper_as_json_is_all_of_stdout():
    result = report("--paper", "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [entry["policy"] for entry in json.loads(result.stdout)] == ["slm", "hlm", "u"] + ["i"] * 5 + ["ui"] * 15


@pytest.mark.parametrize(("table_format", "start"), [("table", " "), ("csv", "policy,k"), ("md", "| policy | k |")])
def test_paper_in_the_other_formats(table_format, start):
    result = report("--paper", "--format", table_format)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.lstrip("\n").startswith(start)


@pytest.mark.parametrize("arguments", [[], ["--paper", "runs/x"], ["--paper", "--figures", "x"]])
def test_a_folder_or_the_paper_never_both_or_none(arguments):
    result = report(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--paper" in result.stderr
