"""`uihlm-device eval`, end to end through the real assembly, loop, client and server; only the weights are fakes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fake_pair import AsciiTokenizer, V, Weights, chatty, installed
from fakes import mixed, serving
from uihlm_cli import assembly
from uihlm_cli.device import main
from uihlm_device.rules.policies import names
from uihlm_device.tokens import Origin
from uihlm_evaluation.quality.metrics import TextScore
from uihlm_evaluation.runs.configuration import DEFAULT_POLICIES
from uihlm_proto.errors import UnavailableError

DENSE_BIT = 32 * V
TIMED = ("--draft-time-s", "0.01", "--forward-time-s", "0.02")
# What the base station's own stopwatch says: no two runs agree on it, whatever the clock is charged.
MEASURED = {"forward_s", "queue_s", "bs_busy_s"}
ROUND_FIELDS = {"policy", "prompt", "position", "token", "origin", "uploaded"} | {
    "draft_s", "forward_s", "queue_s", "link_s", "model_bits", "payload_bits", "wire_bytes",
}  # fmt: skip
POLICY_FIELDS = {
    "policy", "row", "k", "gamma", "theta_u", "theta_c", "rate",
    "prompts", "tokens", "uploaded", "rejected", "upload_rate", "reject_rate", "acceptance_rate",
    "bertscore_f1", "cosine_similarity", "bertscore_f1_llm", "cosine_similarity_llm", "exact_match",
    "last_number_accuracy", "llm_log_prob", "tv", "energy_saving_ratio", "energy_j", "throughput_tok_s",
    "throughput_paper_tok_s", "latency_s", "llm_forwards_per_token", "llm_positions_per_token", "bs_busy_s",
    "model_bits", "payload_bits", "wire_bytes", "skipped_risk",
    "audit_coverage", "audit_bits", "audit_rows", "outage_tokens", "lost_links",
}  # fmt: skip


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    return installed(monkeypatch, tmp_path)


PROMPTS = [
    {"instruction": "Name a river.", "input": "", "output": "The Elbe."},
    {"instruction": "Sum up.", "input": "A long text.", "output": "Short."},
    {"instruction": "Say hello.", "output": ""},
]


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
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


# What is written


def test_folder_holds_one_line_a_sample_and_one_a_token(prompts):
    done("--dataset", prompts)
    assert sorted(path.name for path in Path("run").iterdir()) == [
        "results.json", "rounds.jsonl", "run.json", "samples.jsonl", "scores.jsonl", "table.md",
    ]  # fmt: skip
    samples, rounds = lines("run/samples.jsonl"), lines("run/rounds.jsonl")
    # Prompts are the outer loop; policies come in the order asked for.
    assert [(s["prompt"], s["policy"]) for s in samples] == [(i, name) for i in range(3) for name in DEFAULT_POLICIES]
    assert [(r["prompt"], r["policy"]) for r in rounds] == [
        (s["prompt"], s["policy"]) for s in samples for _ in range(s["tokens"])
    ]
    assert {s["stop"] for s in samples} == {"eos", "length"}, "both ends of an answer are tried here"
    for sample in samples:
        assert sample["reference"] == PROMPTS[sample["prompt"]]["output"]
        assert (sample["tokens"] == 8) or sample["stop"] == "eos"


def test_rounds_hold_the_fields_that_the_contract_names(prompts):
    done("--dataset", prompts, "--policy", "ui", "--policy", "hlm", "--policy", "llm", "--theta-u", "0.3")
    rounds = lines("run/rounds.jsonl")
    for line in rounds:
        assert line.keys() >= ROUND_FIELDS
        own = line["policy"]
        drafted, asked = own != "llm", line["origin"] != "local"
        assert line["uploaded"] == (drafted and asked)
        assert ("x_d" in line) == drafted
        assert {"u", "importance", "attention_entropy", "attention_max"} <= line.keys() if own == "ui" else True
        assert ("u" in line) == (own == "ui"), "computed only when asked for"
        for name in ("y_d", "reject_prob", "tv"):
            assert (name in line) == line["uploaded"]
        assert ("round" in line) == asked
        assert (line["model_bits"] == DENSE_BIT) == line["uploaded"]
    assert {line["origin"] for line in rounds if line["policy"] == "ui"} >= {"local", "accepted"}
    assert {line["origin"] for line in rounds if line["policy"] == "llm"} == {"llm"}
    assert {line["origin"] for line in rounds} <= set(Origin)


def test_positions_count_on_from_the_prompt_and_tokens_are_the_text(prompts):
    done("--dataset", prompts, "--policy", "hlm")
    for sample in lines("run/samples.jsonl"):
        own = [line for line in lines("run/rounds.jsonl") if line["prompt"] == sample["prompt"]]
        row = PROMPTS[sample["prompt"]]
        turn = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
        assert [line["position"] for line in own] == [len(f"[{turn}]>") + i for i in range(sample["tokens"])]
        assert sample["text"] == AsciiTokenizer().decode([line["token"] for line in own])
        assert [line["round"] for line in own] == list(range(1, sample["tokens"] + 1))


def test_results_hold_every_field_and_llm_and_slm_their_nulls(prompts):
    done("--dataset", prompts, "--seed", "5", *TIMED)
    document = results()
    assert document.keys() >= {"config", "dataset", "models", "provenance", "failed", "policies"}
    assert document["config"]["selection"]["seed"] == 5
    assert document["config"]["decode"]["max_tokens"] == 8
    assert document["failed"] == []
    assert document["dataset"]["indices"] == [0, 1, 2]
    assert [(model["role"], model["label"]) for model in document["models"]] == [
        ("slm", "bundled drafter"),
        ("llm", "bundled target"),
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", model["sha256"]) for model in document["models"])
    assert document["provenance"].keys() >= {"packages", "git_commit", "git_dirty", "metric_hash"}
    assert [entry["policy"] for entry in document["policies"]] == list(DEFAULT_POLICIES)
    for entry in document["policies"]:
        assert entry.keys() == POLICY_FIELDS
        assert entry["bertscore_f1"] is entry["cosine_similarity"] is None, "no metrics were asked for"
        assert entry["latency_s"].keys() == {"mean", "low", "high"}
    llm, slm, hlm = (by_policy()[name] for name in ("llm", "slm", "hlm"))
    assert (llm["uploaded"], llm["rejected"], llm["upload_rate"], llm["skipped_risk"]) == (0, 0, 0.0, 0.0)
    nulls = ("reject_rate", "acceptance_rate", "energy_saving_ratio", "throughput_paper_tok_s")
    assert [llm[name] for name in nulls] == [None] * 4
    assert (slm["uploaded"], slm["upload_rate"], slm["reject_rate"], slm["acceptance_rate"]) == (0, 0.0, None, None)
    assert (slm["model_bits"], slm["wire_bytes"], slm["llm_forwards_per_token"], slm["bs_busy_s"]) == (0, 0, 0.0, 0.0)
    assert slm["energy_saving_ratio"] > 0
    assert slm["skipped_risk"] is None, "it skips, and nobody audited it"
    assert slm["throughput_paper_tok_s"] == pytest.approx(1 / 1.901)
    # The drafter's own time and nothing else: 0.01 s a token.
    assert slm["throughput_tok_s"] == pytest.approx(100.0)
    assert (hlm["upload_rate"], hlm["energy_saving_ratio"], hlm["skipped_risk"]) == (1.0, 0.0, 0.0)
    assert hlm["throughput_paper_tok_s"] == pytest.approx(1 / (1.901 + 2.119))


def test_totals_of_rounds_samples_and_results_agree(prompts, weights):
    done("--dataset", prompts, "--policy", "all", "--theta-u", "0.4", "--rate", "0.7", "--no-agreement")
    samples, rounds = lines("run/samples.jsonl"), lines("run/rounds.jsonl")
    for name, entry in by_policy().items():
        own = [sample for sample in samples if sample["policy"] == name]
        tokens = [line for line in rounds if line["policy"] == name]
        total = {key: sum(sample[key] for sample in own) for key in own[0] if isinstance(own[0][key], int | float)}
        assert entry["tokens"] == total["tokens"] == len(tokens)
        assert entry["uploaded"] == total["uploaded"] == sum(line["uploaded"] for line in tokens)
        assert entry["rejected"] == total["rejected"] == sum(line["origin"] == "resampled" for line in tokens)
        accepted = sum(line["origin"] == "accepted" for line in tokens)
        assert entry["uploaded"] == accepted + entry["rejected"]
        for key in ("model_bits", "payload_bits"):
            assert entry[key] == total[key] == sum(line[key] for line in tokens)
        assert entry["model_bits"] == entry["uploaded"] * DENSE_BIT
        # Connecting belongs to no token: its prefill and its bytes stand in the sample alone.
        prefills = 0 if name == "slm" else len(own)
        assert total["llm_forwards"] == sum(line["llm_forwards"] for line in tokens) + prefills
        assert entry["llm_forwards_per_token"] == pytest.approx(total["llm_forwards"] / entry["tokens"])
        assert entry["llm_positions_per_token"] == pytest.approx(total["llm_positions"] / entry["tokens"])
        opening = entry["wire_bytes"] - sum(line["wire_bytes"] for line in tokens)
        assert entry["wire_bytes"] == total["wire_bytes"]
        assert opening > 0 if prefills else opening == 0
    assert any(0 < entry["rejected"] < entry["uploaded"] < entry["tokens"] for entry in by_policy().values())
    # What the policies are billed for is what the engine ran, to the position.
    (engine,) = weights.engines
    assert sum(sample["llm_forwards"] for sample in samples) == len(engine.batches)
    assert sum(sample["llm_positions"] for sample in samples) == sum(len(work.new_ids) for work in engine.log)
    assert engine.sessions == {}, "every session is closed"


def test_llm_scores_the_tokens_of_each_answer_unbilled_and_untimed(prompts, weights):
    flags = ("--dataset", prompts, "--policy", "ui", "--policy", "llm", "--theta-u", "0.3", *TIMED)
    assert "the LLM scored 6 answers in" in done(*flags, "--output", "with").stderr
    assert "the LLM scored" not in done(*flags, "--output", "without", "--no-agreement").stderr
    logits = mixed(chatty(1), chatty(2), 0.4)
    rounds = lines("with/rounds.jsonl")
    for scored, plain in zip(fixed("with/samples.jsonl"), fixed("without/samples.jsonl"), strict=True):
        own = [r for r in rounds if (r["policy"], r["prompt"]) == (scored["policy"], scored["prompt"])]
        row = PROMPTS[scored["prompt"]]
        turn = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
        ids = AsciiTokenizer().encode(f"[{turn}]>")
        scores = []
        for line in own:
            z = logits(ids).astype(np.float64)
            scores.append(z[line["token"]] - np.log(np.exp(z).sum()))
            ids.append(line["token"])
        # At temperature 1, whatever the answer was drawn at, and of EOS too.
        assert scored["llm_log_prob"] == pytest.approx(np.mean(scores), abs=1e-4)
        known = [line["tv"] for line in own if "tv" in line]
        assert scored["tv"] == (pytest.approx(np.mean(known)) if known else None)
        assert scored | {"llm_log_prob": None} == plain
    assert [fixed(f"{folder}/rounds.jsonl") for folder in ("with", "without")] == [fixed("with/rounds.jsonl")] * 2
    entries = by_policy("with")
    assert entries["ui"]["llm_log_prob"]["mean"] < 0 < entries["ui"]["tv"]["mean"] < 1
    assert entries["llm"]["tv"] is by_policy("without")["ui"]["llm_log_prob"] is None
    assert "ln P_LLM/token" in Path("with/table.md").read_text()
    # Nothing of it is left at the base station.
    assert all(engine.sessions == {} for engine in weights.engines)


def test_without_a_base_station_nothing_is_scored_and_a_note_says_so(prompts, weights):
    result = done("--dataset", prompts, "--policy", "slm")
    assert "note: no policy here asks a base station, so no LLM scores the answers" in result.stderr
    assert by_policy()["slm"]["llm_log_prob"] is None
    assert weights.engines == []


def test_task_is_scored_by_its_target_without_any_encoder(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for form in ("table", "md", "json"):
        result = done("--dataset", path, "--policy", "slm", "--policy", "llm", "--output", form, "--format", form)
        if form == "table":
            assert re.search(r"exact +last", result.stdout)
            assert "cosine" not in result.stdout
        if form == "md":
            assert "| exact match | last number |" in result.stdout
    assert [(s["target"], s["reference"]) for s in lines("json/samples.jsonl")][::2] == [
        (str(n + 1), f"{n} + 1 = {n + 1}\n{n + 1}") for n in range(3)
    ]
    for entry in by_policy("json").values():
        assert entry["exact_match"].keys() == entry["last_number_accuracy"].keys() == {"mean", "low", "high"}
    kept = lines("json/scores.jsonl")
    assert len(kept) == 6
    assert kept[0].keys() >= {"exact_match", "last_number_accuracy"}


def test_bad_row_of_a_task_is_named_with_file_and_line(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?", "answer": " #### "}\n')
    result = evaluate("--dataset", path, "--policy", "slm")
    assert result.exit_code == 1
    assert f'{path}, line 2: "answer" is empty after ####' in result.stderr


def test_gsm8k_that_cannot_be_had_is_an_error_and_no_other_set(monkeypatch):
    monkeypatch.setattr("uihlm_evaluation.prompts.datasets.hub_rows", lambda *where: ("the hub is away", None))
    result = evaluate("--dataset", "gsm8k")
    assert (result.exit_code, Path("run").exists()) == (1, False)
    assert "gsm8k: the hub is away" in result.stderr
    assert "--dataset arithmetic" in result.stderr


def test_scores_come_with_the_name_of_their_encoder(prompts, monkeypatch):
    class Metrics:
        hash = "encoder-7"
        notice = "the small encoder"

        def score(self, candidates, references):
            return [TextScore(0.5, 0.25) if reference else TextScore(None, None) for reference in references]

    monkeypatch.setattr("uihlm_evaluation.quality.metrics.TextMetrics", Metrics)
    result = done("--dataset", prompts, "--policy", "slm", "--metrics")
    assert "note: the small encoder" in result.stderr
    assert by_policy()["slm"]["bertscore_f1"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert by_policy()["slm"]["cosine_similarity"]["mean"] == 0.25
    assert results()["provenance"]["metric_hash"] == "encoder-7"
    assert "encoder-7" in Path("run/table.md").read_text()


def test_model_in_another_process_has_no_hash_here(prompts, weights):
    with serving(weights.engine()) as address:
        done("--dataset", prompts, "--policy", "hlm", "--server", address)
    assert [model["role"] for model in results()["models"]] == ["slm"]
    assert results()["config"]["llm"] is None
    assert len(weights.engines) == 1, "no local base station beside the named one"


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


# What is run


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


# Where settings come from


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
    ],
)
def test_config_file_mistakes_exit_2_and_name_the_key(prompts, tmp_path, content, message):
    (tmp_path / "run.toml").write_text(content)
    result = evaluate("--dataset", prompts, "--config", tmp_path / "run.toml")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not Path("run").exists()


# Going on


def interrupt(at: int, error: BaseException) -> Callable[[Weights], None]:
    def hook(weights: Weights) -> None:
        if weights.drafts == at:
            raise error

    return hook


def stopped_and_resumed(prompts: str, weights: Weights, at: int, error: BaseException, *flags: str) -> Result:
    """Run whole into `whole`; then into `run`, stopped at a draft and resumed. Returns the stopped run's result."""
    done("--dataset", prompts, *flags, "--output", "whole")
    weights.drafts, weights.before_draft = 0, interrupt(at, error)
    stopped = evaluate("--dataset", prompts, *flags)
    weights.before_draft = lambda weights: None
    assert 0 < len(lines("run/samples.jsonl")) < len(lines("whole/samples.jsonl"))
    assert not Path("run/results.json").exists()
    done("--dataset", prompts, *flags, "--resume")
    return stopped


@pytest.mark.parametrize("at", [30, 71])
def test_resumed_run_is_the_uninterrupted_one(prompts, weights, at):
    stopped = stopped_and_resumed(prompts, weights, at, KeyboardInterrupt(), *TIMED)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "the same flags and --resume --output run go on with it" in stopped.stderr
    assert stopped.stderr.endswith("interrupted\n")
    for name in ("samples.jsonl", "rounds.jsonl"):
        assert fixed(f"run/{name}") == fixed(f"whole/{name}")
    for own, other in zip(results()["policies"], results("whole")["policies"], strict=True):
        measured = ("bs_busy_s", "energy_j")
        assert {**own, **dict.fromkeys(measured)} == {**other, **dict.fromkeys(measured)}


def test_torn_last_lines_are_run_again(prompts):
    flags = ("--dataset", prompts, "--policy", "hlm", "--policy", "slm", *TIMED)
    done(*flags, "--output", "whole")
    done(*flags)
    samples, rounds = Path("run/samples.jsonl"), Path("run/rounds.jsonl")
    samples.write_bytes(samples.read_bytes()[:-40])
    rounds.write_bytes(rounds.read_bytes()[:-10])
    done(*flags, "--resume")
    for name in ("samples.jsonl", "rounds.jsonl"):
        assert fixed(f"run/{name}") == fixed(f"whole/{name}")


def test_base_station_lost_half_way_exits_4_and_can_be_resumed(prompts, weights):
    stopped = stopped_and_resumed(prompts, weights, 40, UnavailableError("it went away"), *TIMED)
    assert (stopped.exit_code, stopped.stdout) == (4, "")
    assert "it went away" in stopped.stderr
    assert "--resume --output run" in stopped.stderr
    assert fixed("run/samples.jsonl") == fixed("whole/samples.jsonl")


def test_finished_run_resumes_to_the_same_files_without_a_forward(prompts, weights):
    done("--dataset", prompts)
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    weights.drafts = 0
    done("--dataset", prompts, "--resume")
    assert weights.drafts == 0
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


def test_folder_with_a_run_is_not_written_over(prompts):
    done("--dataset", prompts, "--policy", "slm")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    result = evaluate("--dataset", prompts, "--policy", "slm")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run holds a run already: add --resume to go on with it, or name another --output" in result.stderr
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--theta-u", "0.4"], "rules.theta_u: 0.58 → 0.4"),
        (["--max-tokens", "9"], "decode.max_tokens: 8 → 9"),
        (["--limit", "2"], "selection.limit: None → 2"),
        (["--rtt-s", "0.1"], "link.rtt_s: 0.0 → 0.1"),
        (["--policy", "hlm"], "policies: "),
        (["--server", "127.0.0.1:1"], "llm: bundled → None"),
    ],
)
def test_resume_with_another_setting_names_it(prompts, change, named):
    done("--dataset", prompts, "--policy", "slm")
    result = evaluate("--dataset", prompts, "--policy", "slm", "--resume", *change)
    assert result.exit_code == 1
    assert f"run was made with other settings ({named}" in result.stderr


def test_resume_after_the_data_set_was_edited_is_refused(prompts):
    done("--dataset", prompts, "--policy", "slm")
    Path(prompts).write_text(Path(prompts).read_text().replace("river", "mountain"))
    result = evaluate("--dataset", prompts, "--policy", "slm", "--resume")
    assert result.exit_code == 1
    assert "run was made with other prompts" in result.stderr


def test_resume_needs_a_folder(prompts):
    result = CliRunner().invoke(main, ["eval", "--dataset", prompts, "--resume"])
    assert result.exit_code == 2
    assert "--resume needs --output" in result.stderr


# What goes wrong


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


# The same again


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
