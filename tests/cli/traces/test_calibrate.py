"""`uihlm-device calibrate`, end to end on a fake pair, and what `--profile` then sets in `eval`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fake_pair import STOP, V, Weights, chatty, installed
from fakes import FakeEngine
from uihlm_cli.device import main
from uihlm_cli.options.settings import run_config
from uihlm_cli.runs.evaluate import command as eval_command
from uihlm_cli.traces.calibrate import command as calibrate_command
from uihlm_evaluation.calibration.profile import Profile, load_profile
from uihlm_evaluation.calibration.trace import load_trace

PROMPTS = [{"instruction": f"Say {word}.", "output": ""} for word in ("one", "two", "three", "four")]


def drafts(ids: Sequence[int]) -> np.ndarray:
    """Sharp after an even id, flat after an odd one."""
    return chatty(1)(ids) * (1.0 if ids[-1] % 2 else 4.0)


def verifies(ids: Sequence[int]) -> np.ndarray:
    """The same where that is sharp, another's opinion where it is flat: rejection grows with uncertainty."""
    return chatty(2)(ids) if ids[-1] % 2 else drafts(ids)


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    weights = installed(monkeypatch, tmp_path)
    weights.for_policy = lambda rule: weights.counted(drafts)
    monkeypatch.setattr(
        "uihlm_basestation.engines.loading.load_engine", lambda *unused: FakeEngine(verifies, V, [STOP])
    )
    return weights


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return str(path)


def invoked(*arguments: object, **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(main, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def calibrate(prompts: str, *arguments: object) -> Result:
    usual = ["--dataset", prompts, "--max-tokens", 8, "--output", "pair", "--no-plots"]
    return invoked("calibrate", *usual, *arguments)


def done(prompts: str, *arguments: object) -> Result:
    result = calibrate(prompts, *arguments)
    assert result.exit_code == 0, result.output
    return result


def test_folder_holds_profile_findings_and_trace(prompts):
    result = done(prompts)
    assert sorted(path.name for path in Path("pair").iterdir()) == [
        "calibration.json", "profile.json", "trace.json", "trace.npz",
    ]  # fmt: skip
    profile, trace = load_profile(Path("pair")), load_trace(Path("pair/trace.npz"))
    content = json.loads(Path("pair/calibration.json").read_text())
    assert (profile.prompts, profile.tokens) == (4, len(trace))
    assert profile.slm.sha256 != profile.llm.sha256 and trace.header.slm_sha256 == profile.slm.sha256
    assert content["profile"] == json.loads(Path("pair/profile.json").read_text())
    assert profile.mean_rejection.mean == pytest.approx(float(trace.reject_prob.mean()), abs=1e-6)
    assert (profile.threshold, profile.k, profile.gamma, profile.temperature) == ("risk-prone", 3, 1.0, 0.6)
    assert "4/4 prompts" in result.stderr and "s to go" in result.stderr
    assert "too few" in result.stderr and "written to pair; use it with --profile pair" in result.stderr


def test_table_says_the_law_the_thresholds_and_the_curve(prompts):
    lines = [line.rstrip() for line in done(prompts).stdout.splitlines()]
    profile = load_profile(Path("pair"))
    tokens = profile.tokens
    assert lines[0] == f"β ≈ a·u + b over {tokens} tokens of 4 prompts"

    def shown(value):
        return f"{value.mean:.3f} ±{value.half_width:.3f}"

    (law,) = [line for line in lines if line.startswith(" rejection probability")]
    assert re.sub(r"\s+", " ", law).strip() == " ".join(
        ["rejection probability", *map(shown, (profile.a, profile.b, profile.correlation, profile.r2_bins))]
    )
    (prone,) = [line for line in lines if line.startswith(" risk-prone *")]
    assert (
        re.sub(r"\s+", " ", prone)
        .strip()
        .startswith(f"risk-prone * {shown(profile.mean_rejection)} {shown(profile.theta_risk_prone)}")
    )
    (paper,) = [line for line in lines if "(paper)" in line]
    assert paper.split() == ["1", "(paper)", "70.1", "46.0", "20.4", "9.0", "4.8", "–"]
    assert f"chosen (*): θ_u = {profile.theta_u:.3f} (risk-prone), k = 3, γ = 1; layer" in " ".join(lines)


def test_other_formats_hold_the_same_numbers(prompts):
    content = json.loads(done(prompts, "--format", "json").stdout)
    assert content == json.loads(Path("pair/calibration.json").read_text())
    rows = {
        row["quantity"]: row for row in csv.DictReader(io.StringIO(done(prompts, "--resume", "--format", "csv").stdout))
    }
    a = content["law"]["probability"]["a"]
    assert [float(rows["a"][name]) for name in ("mean", "low", "high")] == [a["mean"], a["low"], a["high"]]
    prone = next(entry for entry in content["thresholds"] if entry["name"] == "risk-prone")
    assert float(rows["theta_u_risk_prone"]["mean"]) == prone["theta_u"]["mean"]
    assert float(rows["risk_risk_prone"]["mean"]) == prone["risk"]["mean"]
    text = done(prompts, "--resume", "--format", "md").stdout
    assert f"| rejection probability | {a['mean']:.3f} [{a['low']:.3f}, {a['high']:.3f}] |" in text
    assert "**Warning:**" in text


def test_resume_reads_the_trace_anew_without_a_model_forward(prompts, weights):
    done(prompts)
    before, drafts = load_profile(Path("pair")), weights.drafts
    done(prompts, "--resume", "--threshold", "risk-averse", "--k", 7, "--gamma", 1.5, "--layer", 2)
    after = load_profile(Path("pair"))
    assert weights.drafts == drafts
    assert after.a == before.a
    assert after.knobs == {"theta_u": before.theta_risk_averse.mean, "k": 7, "gamma": 1.5, "layer": 2}


def test_limit_is_sixty_unless_a_sample_is_drawn(tmp_path):
    def selection(*arguments):
        from uihlm_cli.traces.tracing import trace_config

        return trace_config(calibrate_command.make_context("calibrate", list(arguments)).params).selection

    assert selection().limit == 60
    assert (selection("--sample", "5").limit, selection("--sample", "5").sample) == (None, 5)
    assert selection("--limit", "3").limit == 3


def test_plots_are_written_as_svg_and_png(prompts):
    assert invoked("calibrate", "--dataset", prompts, "--max-tokens", 8, "--output", "p").exit_code == 0
    for name in ("reliability", "importance", "collapse"):
        assert Path("p", f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "uncertainty u" in Path("p/reliability.svg").read_text() and Path("p", f"{name}.svg").exists()


def test_interrupted_run_says_how_to_go_on(prompts, weights):
    def cut(weights):
        if weights.drafts == 12:
            raise KeyboardInterrupt

    weights.before_draft = cut
    result = calibrate(prompts)
    assert result.exit_code == 130
    assert "--resume --output pair go on" in result.stderr
    weights.before_draft = lambda weights: None
    assert load_profile_after(done(prompts, "--resume")).prompts == 4


def load_profile_after(result: Result) -> Profile:
    assert result.exit_code == 0
    return load_profile(Path("pair"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--codec", "coupled"), "sends no distribution"),
        (("--llm", "x.gguf", "--server", "127.0.0.1:1"), "give one of them"),
        (("--threshold", "brave"), "'brave' is not one of"),
    ],
)
def test_flags_that_cannot_be_are_usage_errors(prompts, arguments, sentence):
    result = calibrate(prompts, *arguments)
    assert result.exit_code == 2 and sentence in result.output
    assert invoked("calibrate", "--resume").exit_code == 2


# --profile


@pytest.fixture
def pair(prompts) -> Profile:
    done(prompts, "--k", 5, "--gamma", 1.5, "--layer", 2)
    return load_profile(Path("pair"))


def config(*arguments: str):
    params = eval_command.make_context("eval", list(arguments), auto_envvar_prefix="UIHLM_EVAL").params
    return run_config(params, ("ui",))


def knobs(made):
    return {"theta_u": made.rules.theta_u, "k": made.rules.k, "gamma": made.decode.gamma, "layer": made.layer}


def test_profile_sets_its_knobs_and_is_named_in_the_settings(pair):
    for path in ("pair", "pair/profile.json"):
        made = config("--profile", path)
        assert knobs(made) == pair.knobs
        assert made.profile == pair.digest
    assert knobs(config()) == {"theta_u": 0.58, "k": 3, "gamma": 1.0, "layer": None}
    assert config().profile is None


def test_flag_wins_over_environment_over_file_over_profile_over_default(pair, monkeypatch, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('theta_u = 0.2\nk = 9\ngamma = 0.25\nprofile = "pair"\n')
    monkeypatch.setenv("UIHLM_EVAL_THETA_U", "0.3")
    monkeypatch.setenv("UIHLM_EVAL_K", "11")
    for arguments in (["--config", str(file), "--profile", "pair"], ["--profile", "pair", "--config", str(file)]):
        made = config(*arguments, "--theta-u", "0.4")
        assert knobs(made) == {"theta_u": 0.4, "k": 11, "gamma": 0.25, "layer": 2}
    monkeypatch.delenv("UIHLM_EVAL_K")
    assert knobs(config("--config", str(file))) == {"theta_u": 0.3, "k": 9, "gamma": 0.25, "layer": 2}
    assert config("--config", str(file)).profile == pair.digest
    monkeypatch.setenv("UIHLM_EVAL_PROFILE", "pair")
    assert knobs(config()) == {"theta_u": 0.3, "k": 5, "gamma": 1.5, "layer": 2}


def evaluated(prompts: str, *arguments: object) -> Result:
    usual = ["--dataset", prompts, "--max-tokens", 8, "--no-metrics", "--output", "run", "--policy", "ui"]
    return invoked("eval", *usual, *arguments)


def test_eval_runs_with_the_profile_and_records_it(prompts, pair):
    result = evaluated(prompts, "--profile", "pair")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    document = json.loads(Path("run/results.json").read_text())
    assert document["config"]["profile"] == pair.digest
    (row,) = document["policies"]
    assert (row["theta_u"], row["k"], row["gamma"]) == (pair.theta_u, 5, 1.5)


def test_profile_of_another_pair_is_refused_and_of_another_temperature_warned_of(prompts, pair):
    values = json.loads(Path("pair/profile.json").read_text())
    result = evaluated(prompts, "--profile", "pair", "--temperature", "1")
    assert result.exit_code == 0
    assert "warning: the profile was measured with temperature 0.6, this run has 1.0" in result.stderr
    values["slm"]["sha256"] = "0" * 64
    Path("other.json").write_text(json.dumps(values))
    result = evaluated(prompts, "--profile", "other.json", "--resume")
    assert result.exit_code == 1 and "measured with another drafter" in result.stderr


def test_profile_that_is_none_is_a_usage_error(prompts, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.json").write_text("words")
    for path, sentence in (
        (tmp_path / "empty", "there is no profile at"),
        (tmp_path / "words.json", "not valid JSON"),
        (tmp_path / "none", "does not exist"),
    ):
        result = evaluated(prompts, "--profile", path)
        assert result.exit_code == 2 and sentence in re.sub(r"\s+", " ", result.output)
