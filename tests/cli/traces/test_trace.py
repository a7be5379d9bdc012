"""`uihlm-device trace`, end to end on a fake pair."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fake_pair import Weights, chatty, installed
from uihlm_cli.device import main
from uihlm_cli.traces.trace import command
from uihlm_cli.traces.tracing import trace_config
from uihlm_evaluation.traces.pack import Side, load_pack
from uihlm_evaluation.traces.split import held_out

PROMPTS = [{"instruction": f"Say {word}.", "output": ""} for word in ("one", "two", "three", "four")]
USUAL = ("--max-tokens", 8, "--output", "pack")


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    weights = installed(monkeypatch, tmp_path)
    weights.for_policy = lambda rule: weights.counted(chatty(1))
    return weights


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return str(path)


def invoked(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["trace", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(prompts: str, *arguments: object) -> Result:
    result = invoked("--dataset", prompts, *USUAL, *arguments)
    assert result.exit_code == 0, result.output
    return result


def test_pack_is_written_and_said_what_is_in_it(prompts):
    result = done(prompts)
    pack = load_pack(Path("pack"))
    held = [index for index, row in enumerate(PROMPTS) if held_out(row["instruction"])]
    assert list(pack.manifest.held_out) == held and 0 < len(held) < 4
    assert pack.manifest.dataset == "prompts.jsonl" and pack.manifest.config["decode"]["max_tokens"] == 8
    assert "4/4 prompts" in result.stderr
    assert result.stderr.endswith("written to pack; score rules on it with `uihlm-device score --trace pack`\n")
    lines = [line.split() for line in result.stdout.splitlines() if line.strip() and "─" not in line]
    assert lines[0] == ["side", "prompts", "tokens", "rejection", "probability", "%", "u", "%"]
    for line, side in zip(lines[1:], (Side.TRAIN, Side.HELD_OUT, Side.ALL), strict=True):
        trace = pack.side(side)
        assert line[:3] == [side.value, str(len(np.unique(trace.prompt))), str(len(trace))]
        assert line[3] == f"{100 * trace.reject_prob.mean():.1f}" and line[6] == f"{100 * trace.u.mean():.1f}"


def test_other_formats_hold_the_same_numbers(prompts):
    rows = json.loads(done(prompts, "--format", "json").stdout)
    mean = load_pack(Path("pack")).trace.reject_prob.mean()
    assert [row["side"] for row in rows] == ["train", "held-out", "all"]
    assert rows[2]["reject_prob"]["mean"] == pytest.approx(float(mean), abs=1e-6)
    lines = list(csv.DictReader(io.StringIO(done(prompts, "--resume", "--format", "csv").stdout)))
    assert float(lines[4]["mean"]) == rows[2]["reject_prob"]["mean"]
    assert (lines[4]["side"], lines[4]["quantity"], int(lines[4]["tokens"])) == (
        "all",
        "reject_prob",
        rows[2]["tokens"],
    )
    text = done(prompts, "--resume", "--format", "md").stdout
    assert text.splitlines()[0] == "| side | prompts | tokens | rejection probability % | u % |"
    value = rows[0]["u"]
    assert f"| {100 * value['mean']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}] |" in text


def test_a_side_without_prompts_has_no_means(prompts):
    rows = json.loads(done(prompts, "--held-out", 0, "--format", "json").stdout)
    assert rows[1] == {"side": "held-out", "prompts": 0, "tokens": 0, "reject_prob": None, "u": None}
    assert "| held-out | 0 | 0 | – | – |" in done(prompts, "--held-out", 0, "--resume", "--format", "md").stdout


def test_limit_sample_and_seed_choose_the_prompts(prompts):
    done(prompts, "--limit", 2, "--seed", 4, "--no-hidden", "--store", "parquet")
    pack = load_pack(Path("pack"))
    assert sorted(pack.manifest.train + pack.manifest.held_out) == [0, 1]
    assert pack.manifest.seed == 4 and pack.trace.hidden is None and Path("pack/trace.parquet").is_file()

    def selection(*arguments):
        return trace_config(command.make_context("trace", list(arguments)).params).selection

    assert selection().limit == 60
    assert (selection("--sample", "5").limit, selection("--sample", "5").sample) == (None, 5)


def test_interrupted_pack_goes_on(prompts, weights):
    def cut(weights):
        if weights.drafts == 12:
            raise KeyboardInterrupt

    weights.before_draft = cut
    result = invoked("--dataset", prompts, *USUAL)
    assert result.exit_code == 130 and "--resume --output pack go on" in result.stderr
    weights.before_draft = lambda weights: None
    done(prompts, "--resume")
    drafts = weights.drafts
    assert len({*load_pack(Path("pack")).trace.prompt.tolist()}) == 4
    done(prompts, "--resume")
    assert weights.drafts == drafts


def test_a_pack_of_other_settings_is_not_gone_on_with(prompts):
    done(prompts)
    result = invoked("--dataset", prompts, *USUAL, "--resume", "--temperature", 1)
    assert result.exit_code == 1 and "other settings, prompts or models (digest)" in result.stderr


def test_a_prompt_that_fails_is_told_of(prompts, weights):
    weights.drafter_context = 12
    weights.for_policy = lambda rule: weights._drafter()
    result = invoked("--dataset", prompts, "--output", "pack", "--max-tokens", 8)
    assert result.exit_code == 3 and "prompts failed, the first: prompt 2: " in result.stderr
    assert {prompt for prompt, _ in load_pack(Path("pack")).manifest.failed} >= {2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--codec", "coupled"), "sends no distribution"),
        (("--resume",), "--resume needs --output"),
        (("--held-out", "1.5"), "not in the range"),
        (("--store", "csv"), "'csv' is not one of"),
        # Drafts go one by one, so that each is judged.
        (("--draft-length", "4"), "No such option"),
        (("--tree", "4"), "No such option"),
    ],
)
def test_flags_that_cannot_be_are_usage_errors(prompts, arguments, sentence):
    result = invoked("--dataset", prompts, *arguments)
    assert result.exit_code == 2 and sentence in result.output
