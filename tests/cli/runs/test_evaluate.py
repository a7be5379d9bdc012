"""`uihlm-device eval`, end to end: what is run, what is shown, and what goes wrong."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluating import TIMED, by_policy, done, evaluate, fixed, lines, results
from fake_pair import Weights
from uihlm_cli import assembly
from uihlm_cli.device import main
from uihlm_device.rules.policies import names
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES

pytestmark = pytest.mark.usefixtures("weights")


# What is shown
def test_stdout_is_the_table_alone_in_every_format(prompts):
    shown = {}
    for form in ("table", "json", "csv", "md"):
        result = done("--dataset", prompts, "--limit", 1, "--format", form, "--output", form, *TIMED)
        shown[form] = result.stdout
        assert f"written to {form}" in result.stderr
        assert "6/6 answers; uploaded" in result.stderr
    assert json.loads(shown["json"]) == results("json")["policies"]
    rows = list(csv.DictReader(io.StringIO(shown["csv"])))
    assert [row["policy"] for row in rows] == list(DEFAULT_POLICIES)
    assert [int(row["tokens"]) for row in rows] == [entry["tokens"] for entry in results("csv")["policies"]]
    assert shown["md"] == Path("md/table.md").read_text()
    assert shown["md"].startswith("| policy")
    rows = [line.split()[0] for line in shown["table"].splitlines() if line.strip()]
    assert rows[-6:] == list(DEFAULT_POLICIES)
    assert "\x1b" not in shown["table"]
    assert max(map(len, shown["table"].splitlines())) <= 100


def test_progress_is_a_line_a_tenth_and_never_on_stdout(prompts):
    result = done("--dataset", prompts, "--policy", "all", "--format", "json")
    shown = re.findall(r"^(\d+)/27 answers; uploaded \d+%, accepted \d+%$|(\d+)/27", result.stderr, re.M)
    assert 10 <= len(shown) <= 11
    assert "answers" not in result.stdout


def test_notice_of_the_data_set_goes_to_stderr(monkeypatch):
    monkeypatch.setattr("uihlm_evaluation.prompts.datasets.hub_rows", lambda *where: ("the hub is away", None))
    result = done("--limit", 1, "--policy", "slm", "--format", "json")
    assert "note: the hub is away: using the examples shipped with uihlm" in result.stderr
    assert json.loads(result.stdout)[0]["prompts"] == 1
    assert results()["dataset"]["label"] == "shipped with uihlm"


def test_policies_repeat_all_and_unknown(prompts):
    done("--dataset", prompts, "--limit", 1, "--policy", "u", "--policy", "slm", "--policy", "u")
    assert list(by_policy()) == ["u", "slm"]
    done("--dataset", prompts, "--limit", 1, "--policy", "all", "--output", "all")
    # `learned` needs weights: without them `all` leaves it out.
    assert list(by_policy("all")) == [name for name in names() if name != "learned"]
    result = evaluate("--dataset", prompts, "--policy", "best", "--output", "no")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown policy 'best'" in result.stderr
    assert all(name in result.stderr for name in ("all", *names()))
    assert not Path("no").exists()


def test_without_an_hlm_row_there_is_nothing_to_save_against(prompts):
    done("--dataset", prompts, "--policy", "u")
    assert by_policy()["u"]["energy_saving_ratio"] is None


def test_selection_picks_prompts_by_place_or_by_lot(prompts, tmp_path):
    def indices(*flags: object) -> list[int]:
        folder = str(tmp_path / "-".join(map(str, flags)))
        done("--dataset", prompts, "--policy", "slm", "--output", folder, *flags)
        assert [sample["prompt"] for sample in lines(f"{folder}/samples.jsonl")] == results(folder)["dataset"][
            "indices"
        ]
        return results(folder)["dataset"]["indices"]

    assert indices("--limit", 2) == [0, 1]
    assert indices("--offset", 1) == [1, 2]
    assert indices("--offset", 1, "--limit", 1) == [1]
    draws = [indices("--sample", 1, "--seed", seed) for seed in range(6)]
    assert len({tuple(draw) for draw in draws}) > 1
    assert draws[0] == indices("--sample", 1, "--seed", 0, "--limit", 1)


def test_prompt_meets_the_same_noise_alone_as_among_others(prompts):
    done("--dataset", prompts, *TIMED)
    done("--dataset", prompts, *TIMED, "--offset", 2, "--policy", "ui", "--output", "alone")
    chosen = [s for s in lines("run/samples.jsonl") if (s["prompt"], s["policy"]) == (2, "ui")]
    assert [s["text"] for s in lines("alone/samples.jsonl")] == [s["text"] for s in chosen]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no data set"),
        ('{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n', 'line 2: "output" is missing'),
        ('{"instruction": "a", "output": "b"}\nnonsense\n', "line 2: not valid JSON"),
        ("", "has no examples"),
    ],
)
def test_bad_data_set_is_a_sentence_with_its_place(tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_text(content)
    result = evaluate("--dataset", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert str(path) in result.stderr
    assert not Path("run").exists()


def test_dry_run_says_what_would_be_run_and_touches_nothing(prompts, weights, monkeypatch):
    monkeypatch.setattr(assembly, "resolve", lambda *unused: pytest.fail("a dry run looked for weights"))
    result = done("--dataset", prompts, "--dry-run", "--limit", 2, "--policy", "hlm", "--policy", "u", "--seed", 9)
    assert "2 prompts of prompts.jsonl under hlm, u" in result.stdout
    assert "at most 32 tokens in 4 answers, seed 9" in result.stdout
    assert "output: run" in result.stdout
    assert list(Path().iterdir()) == []


def test_output_is_named_after_the_time_when_it_is_not_named(prompts):
    arguments = ["eval", "--dataset", prompts, "--policy", "slm", "--max-tokens", "2", "--no-metrics"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    (folder,) = Path("runs").iterdir()
    assert re.fullmatch(r"eval-\d{8}-\d{6}", folder.name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--limit", "0"], ["--k", "0"], ["--rate", "2"], ["--top-p", "0"], ["--format", "xml"], ["--clock", "fast"],
        ["--theta-u", "nan"], ["--noise-dbm", "inf"], ["--device-w", "nan"], ["--timeout-s", "inf"], ["extra"],
    ],
)  # fmt: skip
def test_usage_errors_exit_2_and_write_nothing(prompts, arguments):
    result = evaluate("--dataset", prompts, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not Path("run").exists()


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 2**200])
def test_seed_that_no_key_holds_is_refused_at_once(prompts, seed):
    result = evaluate("--dataset", prompts, "--sample", 1, "--seed", seed)
    assert result.exit_code == 1
    assert f"seed must fit 64 bits with sign, got {seed}" in result.stderr


def interrupt(at: int, error: BaseException) -> Callable[[Weights], None]:
    def hook(weights: Weights) -> None:
        if weights.drafts == at:
            raise error

    return hook


@pytest.mark.parametrize("end", ["drafter", "engine"])
def test_prompt_too_long_for_a_context_fails_alone(prompts, weights, end):
    # "[Sum up.\n\nA long text.]>" has 24 characters, the others at most 16.
    setattr(weights, f"{end}_context", 24)
    result = evaluate("--dataset", prompts, "--policy", "hlm", "--policy", "llm")
    assert result.exit_code == 3
    assert "2 of 6 answers failed, the first: prompt 1 under hlm: " in result.stderr
    document = results()
    assert [(f["policy"], f["prompt"]) for f in document["failed"]] == [("hlm", 1), ("llm", 1)]
    assert all("24" in failure["error"] for failure in document["failed"])
    assert [entry["prompts"] for entry in document["policies"]] == [2, 2]
    samples = lines("run/samples.jsonl")
    assert [s["stop"] == "error" for s in samples] == [False, False, True, True, False, False]
    kept = [s for s in samples if s["stop"] != "error"]
    assert sum(entry["tokens"] for entry in document["policies"]) == sum(s["tokens"] for s in kept) > 0
    assert "hlm" in result.stdout, "the table of what worked is shown all the same"


def test_nobody_at_the_named_address_exits_4(prompts):
    result = evaluate("--dataset", prompts, "--server", "127.0.0.1:1", "--policy", "hlm")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "no base station answers at 127.0.0.1:1" in result.stderr
    assert "--resume" not in result.stderr, "nothing was done that could be gone on with"


def test_device_alone_needs_no_base_station(prompts, weights):
    done("--dataset", prompts, "--server", "127.0.0.1:1", "--policy", "slm")
    done("--dataset", prompts, "--policy", "slm", "--output", "local")
    assert weights.engines == [], "no large model is loaded for it either"


def test_defect_shows_its_traceback(prompts, weights):
    weights.before_draft = interrupt(1, ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError):
        evaluate("--dataset", prompts, "--policy", "slm")


def test_same_seed_same_files_and_another_seed_others(prompts):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        done("--dataset", prompts, *TIMED, "--seed", seed, "--output", folder)
    for name in ("samples.jsonl", "rounds.jsonl"):
        assert fixed(f"a/{name}") == fixed(f"b/{name}")
        assert fixed(f"a/{name}") != fixed(f"c/{name}")


def test_clocks_agree_on_tokens_and_bits(prompts):
    flags = ("--dataset", prompts, "--link", "none", "--rtt-s", "0.002", "--draft-time-s", "0", "--forward-time-s", "0")
    for clock in ("simulated", "enforced"):
        done(*flags, "--clock", clock, "--output", clock)
    kept = ("policy", "prompt", "position", "token", "origin", "uploaded", "model_bits", "payload_bits", "link_s")
    simulated, enforced = (
        [[line[key] for key in kept] for line in lines(f"{clock}/rounds.jsonl")] for clock in ("simulated", "enforced")
    )
    assert simulated == enforced
    assert {line[-1] for line in simulated} == {0.0, 0.002}
    took_s = {
        clock: sum(s["latency_s"] for s in lines(f"{clock}/samples.jsonl")) for clock in ("simulated", "enforced")
    }
    assert took_s["enforced"] > took_s["simulated"] > 0


# Two models
def test_an_llm_that_ends_its_answers_otherwise_ends_none_here(weights, prompts, monkeypatch):
    """Blocks: both ends must know whether a bonus follows."""
    usual = (
        "--dataset",
        prompts,
        "--codec",
        "coupled",
        "--draft-length",
        3,
        "--policy",
        "hlm",
        "--policy",
        "llm",
        *TIMED,
    )
    done(*usual, "--max-tokens", 40, "--output", "alike")

    def engine(*arguments):
        other = weights.engine(*arguments)
        other.stop_ids = frozenset(range(40, 60))
        return other

    monkeypatch.setattr("uihlm_basestation.engines.loading.load_engine", engine)
    done(*usual, "--max-tokens", 40, "--output", "unlike")
    assert fixed("alike/rounds.jsonl") == fixed("unlike/rounds.jsonl")
    tokens = [line["token"] for line in lines("unlike/rounds.jsonl")]
    assert any(40 <= token < 60 for token in tokens) and 3 in tokens
