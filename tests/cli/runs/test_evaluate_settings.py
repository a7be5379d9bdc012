"""Where the settings of `eval` come from: flags, environment, a file, defaults."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluating import by_policy, done, evaluate, results
from uihlm_cli.device import main

pytestmark = pytest.mark.usefixtures("weights")


def test_flag_beats_environment_beats_file_beats_default(prompts, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('theta_u = 0.1\nk = 2\nmax-tokens = 3\npolicy = ["u", "slm"]\nformat = "json"\n')
    environment = {"UIHLM_EVAL_THETA_U": "0.2", "UIHLM_EVAL_K": "4", "UIHLM_EVAL_CONFIG": str(file)}
    arguments = ["eval", "--dataset", prompts, "--no-metrics", "--output", "run", "--theta-u", "0.3"]
    result = CliRunner(env=environment).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    config = results()["config"]
    assert (config["rules"]["theta_u"], config["rules"]["k"]) == (0.3, 4)
    assert (config["decode"]["max_tokens"], config["policies"]) == (3, ["u", "slm"])
    assert config["rules"]["theta_c"] == 0.4
    assert [entry["policy"] for entry in json.loads(result.stdout)] == ["u", "slm"], "the file's --format"


def test_environment_variables_are_named_after_their_flags(prompts):
    environment = {
        "UIHLM_EVAL_DATASET": prompts, "UIHLM_EVAL_POLICY": "slm llm", "UIHLM_EVAL_FORMAT": "csv",
        "UIHLM_EVAL_LIMIT": "1", "UIHLM_EVAL_OUTPUT": "there", "UIHLM_EVAL_MAX_TOKENS": "2", "UIHLM_EVAL_METRICS": "0",
    }  # fmt: skip
    result = CliRunner(env=environment).invoke(main, ["eval"])
    assert result.exit_code == 0, result.output
    assert [row["policy"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["slm", "llm"]
    assert results("there")["policies"][0]["prompts"] == 1


def test_config_file_takes_one_policy_without_brackets(prompts, tmp_path):
    (tmp_path / "run.toml").write_text('policy = "slm"\n')
    done("--dataset", prompts, "--config", tmp_path / "run.toml")
    assert list(by_policy()) == ["slm"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("theta_x = 1\nk = 2\ncolour = 'red'\n", "sets colour, theta_x, which is no flag of this command"),
        ('config = "other.toml"\n', "sets config"),
        ("theta_u = \n", "is not valid TOML"),
        ('theta_u = "high"\n', "'high' is not a valid float"),
        ("k = 0\n", "0 is not in the range"),
        ("theta_u = [0.5]\n", "sets theta_u to [0.5]: this flag takes one value"),
        ("temperature = {a = 1}\n", "sets temperature to {'a': 1}: it is text or a number"),
        ('codec = ["dense16"]\n', "sets codec to ['dense16']: this flag takes one value"),
        ("policy = [[1]]\n", "sets policy to [[1]]: it is text or a number"),
        ("limit = 3.7\n", "'3.7' is not a valid integer"),
        ("theta_u = true\n", "takes a value, not true or false"),
        ("theta_u = nan\n", "must be a finite number"),
    ],
)
def test_config_file_mistakes_exit_2_and_name_the_key(prompts, tmp_path, content, message):
    (tmp_path / "run.toml").write_text(content)
    result = evaluate("--dataset", prompts, "--config", tmp_path / "run.toml")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not Path("run").exists()


def test_config_file_values_are_read_as_the_command_line_reads_them(prompts, tmp_path):
    (tmp_path / "run.toml").write_text(
        'policy = ["slm"]\nlimit = 1\ntemperature = 1\noutput = "there"\nmetrics = false\n'
    )
    done("--dataset", prompts, "--config", tmp_path / "run.toml")
    [row] = results()["policies"]
    assert (row["policy"], row["prompts"]) == ("slm", 1)
