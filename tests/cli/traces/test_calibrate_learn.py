"""`calibrate --learn`: what it writes, what it says, and who may then run policy `learned`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fake_pair import STOP, V, chatty, installed
from fakes import FakeDrafter, FakeEngine
from uihlm_cli.device import main
from uihlm_device.rules.predictor import LearnedFile
from uihlm_evaluation.calibration.profile import load_profile

PROMPTS = [
    {"instruction": f"Say {word}.", "output": ""}
    for word in ["one", "two", "three", "four", "five", "six", "seven", "eight"]
]


class Telling(FakeDrafter):
    """A drafter of one flat distribution whose hidden state alone says whether the LLM agrees."""

    tells = True

    def forward(self, *arguments, **named):
        record = super().forward(*arguments, **named)
        if record.hidden is not None:
            noise = np.random.default_rng(len(self.ids) * 31 + self.ids[-1]).normal(size=5)
            sign = 1.0 if self.ids[-1] % 2 else -1.0
            record.hidden[:] = [sign if self.tells else noise[0], *noise[1:]]
        return record


@pytest.fixture(autouse=True)
def weights(monkeypatch, tmp_path):
    weights = installed(monkeypatch, tmp_path)
    weights.for_policy = lambda rule: Telling(chatty(1), V, [STOP])

    def verifies(ids):
        return chatty(2)(ids) if ids[-1] % 2 else chatty(1)(ids)

    monkeypatch.setattr(
        "uihlm_basestation.engines.loading.load_engine", lambda *unused: FakeEngine(verifies, V, [STOP])
    )
    monkeypatch.setattr(Telling, "tells", True)
    return weights


@pytest.fixture
def prompts(tmp_path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return str(path)


def invoked(*arguments: object) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def calibrate(prompts: str, *arguments: object) -> Result:
    usual = ["--dataset", prompts, "--max-tokens", 40, "--output", "pair", "--no-plots"]
    return invoked("calibrate", *usual, *arguments)


def learnt(prompts: str, *arguments: object) -> Result:
    result = calibrate(prompts, "--learn", "--upload-rate", 0.4, *arguments)
    assert result.exit_code == 0, result.output
    return result


def evaluated(prompts: str, *arguments: object) -> Result:
    usual = ["--dataset", prompts, "--max-tokens", 16, "--no-metrics", "--limit", 3, "--output", "run"]
    return invoked("eval", *usual, *arguments)


def test_a_predictor_that_wins_is_kept_and_runs_by_profile(prompts):
    result = learnt(prompts)
    assert "rejection caught on held-out prompts at 40.0 % uploaded" in result.stdout
    assert "better, +" in result.stdout and "; kept: the profile points to learned.npz" in " ".join(
        result.stdout.split()
    )
    weights = LearnedFile.of(Path("pair/learned.npz"))
    assert load_profile(Path("pair")).learned == weights.sha256
    assert json.loads(Path("pair/learned.json").read_text())["kept"] is True
    run = evaluated(prompts, "--policy", "learned", "--profile", "pair")
    assert run.exit_code == 0, run.output
    document = json.loads(Path("run/results.json").read_text())
    assert document["config"]["rules"]["learned"] == {"path": "pair/learned.npz", "sha256": weights.sha256}
    (row,) = document["policies"]
    assert 0 < row["upload_rate"] < 1


def test_one_that_does_not_is_written_and_refused_unless_asked_for_by_name(prompts, monkeypatch):
    monkeypatch.setattr(Telling, "tells", False)
    result = learnt(prompts)
    assert "; not kept: the profile leaves it out" in " ".join(result.stdout.split())
    assert load_profile(Path("pair")).learned is None
    assert json.loads(Path("pair/learned.json").read_text())["kept"] is False
    refused = evaluated(prompts, "--policy", "learned", "--profile", "pair")
    assert refused.exit_code == 1 and "policy `learned` has no weights" in refused.output
    tried = evaluated(prompts, "--policy", "learned", "--learned", "pair/learned.npz")
    assert tried.exit_code == 0, tried.output


def test_all_leaves_out_learned_where_it_has_no_weights(prompts):
    rows = evaluated(prompts, "--policy", "all", "--dry-run").output
    assert "u-random" in rows and "learned" not in rows
    learnt(prompts)
    assert "learned" in evaluated(prompts, "--policy", "all", "--profile", "pair", "--dry-run").output


def test_resume_learns_from_the_trace_without_a_model_forward(prompts, weights):
    assert calibrate(prompts).exit_code == 0

    def never(*unused, **named):
        raise AssertionError("a model ran")

    weights.for_policy = never
    first = learnt(prompts, "--resume", "--format", "json")
    document = json.loads(first.stdout)
    assert document["learned"] == json.loads(Path("pair/learned.json").read_text())
    rows = {
        row["quantity"]: row
        for row in csv.DictReader(io.StringIO(learnt(prompts, "--resume", "--format", "csv").stdout))
    }
    wanted = document["learned"]["rules"][0]["wanted"]
    assert float(rows["gain_learned"]["low"]) == wanted["gain"]["low"]
    assert "| learned |" in learnt(prompts, "--resume", "--format", "md").stdout


def test_weights_that_are_not_the_profiles_are_a_usage_error(prompts):
    learnt(prompts)
    file = Path("pair/learned.npz")
    for content, sentence in ((b"words", "holds no weights"), (None, "cannot read")):
        file.write_bytes(content) if content else file.unlink()
        result = evaluated(prompts, "--policy", "u", "--profile", "pair")
        assert result.exit_code == 2 and sentence in re.sub(r"\s+", " ", result.output)


def test_weights_of_another_drafter_are_refused(prompts):
    learnt(prompts)
    trained = LearnedFile.of(Path("pair/learned.npz")).load()
    other = dataclasses.replace(trained, origin=dataclasses.replace(trained.origin, slm_sha256="0" * 64))
    Path("other.npz").write_bytes(other.to_bytes())
    result = evaluated(prompts, "--policy", "learned", "--learned", "other.npz")
    assert result.exit_code == 1 and "trained on another drafter" in result.output


def test_learning_needs_hidden_states(prompts):
    result = calibrate(prompts, "--learn", "--no-hidden")
    assert result.exit_code == 2 and "--no-hidden leaves out" in result.output
