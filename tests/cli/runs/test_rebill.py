"""`uihlm-device rebill`: what it writes is what `eval` writes under the other settings; only the weights are fakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_pair import Weights, installed
from same_runs import contents, lines, unlike
from uihlm_cli.device import main

TIMED = ("--draft-time-s", "0.01", "--forward-time-s", "0.02")
PROMPTS = [
    {"instruction": "Name a river.", "input": "", "output": "The Elbe."},
    {"instruction": "Sum up.", "input": "A long text.", "output": "Short."},
]
POLICIES = ("slm", "llm", "hlm", "u", "random")


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return installed(monkeypatch, tmp_path)


def invoke(*arguments: object, **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def evaluated(folder: str, *flags: object, policies: tuple[str, ...] = POLICIES, exit_code: int = 0) -> Result:
    """A run of short answers, with uploads of every kind among them."""
    chosen = [flag for name in policies for flag in ("--policy", name)]
    usual = ("--dataset", "../prompts.jsonl", "--max-tokens", "8", "--no-metrics", "--theta-u", "0.4", "--rate", "0.6")
    result = invoke("eval", *usual, *chosen, "--output", folder, *flags)
    assert result.exit_code == exit_code, result.output
    return result


def rebilled(folder: str, to: str, *flags: object, exit_code: int = 0, **environment: str) -> Result:
    result = invoke("rebill", folder, "--output", to, *flags, **environment)
    assert result.exit_code == exit_code, result.output
    return result


# The same as a fresh run


@pytest.mark.parametrize(
    "change",
    [
        ("--bandwidth-hz", "2.5e5"),
        ("--distance-m", "1200"),
        ("--transmit-power-dbm", "13"),
        ("--noise-dbm", "-96", "--path-loss-exponent", "3.7"),
        ("--fading", "block", "--fading-seed", "5"),
        ("--fading", "slotted", "--fading-seed", "6", "--coherence-s", "0.001"),
        ("--b-prob", "16"),
        ("--rtt-s", "0.07"),
        ("--rtt-s", "0.07", "--grant-delay-s", "0.005"),
        ("--airtime", "wire"),
        ("--airtime", "wire", "--fading", "slotted", "--devices", "7"),
        ("--devices", "3"),
        ("--device-w", "2.5", "--basestation-w", "70"),
        ("--draft-time-s", "0.003", "--forward-time-s", "0.09"),
        ("--forward-time-s", "0.09", "--position-time-s", "0.004"),
        ("--link", "none"),
        ("--link", "nr"),
        ("--link", "lpwan", "--b-prob", "8", "--airtime", "wire", "--fading", "block"),
    ],
    ids=" ".join,
)
def test_equals_a_fresh_run_under_those_settings(change):
    evaluated("saved", *TIMED)
    evaluated("fresh", *TIMED, *change)
    rebilled("saved", "billed", *change)
    assert unlike(contents("saved")["results.json"], contents("fresh")["results.json"]), "the change shows"
    assert unlike(contents("billed"), contents("fresh")) == []


def test_equals_a_fresh_run_where_tokens_come_several_a_message():
    several, change = (
        ("--stream-interval", "3"),
        ("--forward-time-s", "0.09", "--position-time-s", "0.004", "--rtt-s", "0.07"),
    )
    evaluated("saved", *TIMED, *several, policies=("llm",))
    evaluated("fresh", *TIMED, *several, *change, policies=("llm",))
    rebilled("saved", "billed", *change)
    assert unlike(contents("billed"), contents("fresh")) == []
    evaluated("singly", *TIMED, *change, policies=("llm",))
    told = {
        folder: [line["wire_bytes"] > 0 for line in lines(f"{folder}/rounds.jsonl")] for folder in ("fresh", "singly")
    }
    assert sum(told["fresh"]) < sum(told["singly"]) == len(told["singly"])


@pytest.mark.parametrize(
    ("codec", "before", "now"),
    [
        ("dense16", ("--link", "none"), ("--link", "nr")),
        ("coupled", ("--link", "nr"), ("--link", "paper")),
        ("lattice", ("--link", "lpwan"), ("--link", "none", "--rtt-s", "0.4")),
        ("coupled", ("--fading", "slotted", "--fading-seed", "1"), ("--fading", "slotted", "--fading-seed", "2")),
        ("dense16", ("--b-prob", "4", "--airtime", "wire"), ("--b-prob", "32", "--airtime", "model")),
        ("lattice", ("--b-prob", "4"), ("--b-prob", "32")),
    ],
)
def test_equals_a_fresh_run_from_other_settings_and_codecs(codec, before, now):
    evaluated("saved", *TIMED, "--codec", codec, *before)
    evaluated("fresh", *TIMED, "--codec", codec, *before, *now)
    rebilled("saved", "billed", *now)
    assert unlike(contents("billed"), contents("fresh")) == []


def test_there_and_back_is_the_saved_run():
    evaluated("saved", *TIMED)
    rebilled("saved", "there", "--link", "nr", "--b-prob", "16", "--fading", "slotted")
    assert unlike(contents("saved"), contents("there"))
    rebilled("there", "back", "--link", "paper", "--b-prob", "32", "--fading", "none")
    back = contents("back")
    for name in ("run.json", "results.json"):
        # "The codec's own width" cannot be asked for by a flag: 32 is what it is.
        assert back[name]["config"]["link"].pop("b_prob") == 32
        back[name]["config"]["link"]["b_prob"] = None
    back["run.json"]["digest"] = contents("saved")["run.json"]["digest"]
    assert unlike(back, contents("saved")) == []


def test_run_under_a_real_clock_is_billed_on_the_virtual_one():
    flags = ("--link", "none", "--rtt-s", "0.002", "--draft-time-s", "0", "--forward-time-s", "0")
    evaluated("saved", *flags, "--clock", "enforced")
    evaluated("fresh", *flags, "--rtt-s", "0.01")
    rebilled("saved", "billed", "--rtt-s", "0.01")
    assert unlike(contents("billed"), contents("fresh")) == []


def test_failed_answers_stay_failed(weights):
    # "[Sum up.\n\nA long text.]>" has 24 characters and fails at Open, the others have 16 and break off later.
    weights.engine_breaks_at = 20
    # On a link that takes no time: elsewhere the upload that failed keeps the next answer waiting, and no line holds it.
    flags, change = (*TIMED, "--link", "none"), ("--draft-time-s", "0.03", "--b-prob", "16", "--device-w", "9")
    evaluated("saved", *flags, exit_code=3)
    evaluated("fresh", *flags, *change, exit_code=3)
    result = rebilled("saved", "billed", *change, exit_code=3)
    failed = [sample for sample in lines("billed/samples.jsonl") if sample["stop"] == "error"]
    assert {sample["tokens"] > 0 for sample in failed} == {True, False}
    assert f"{len(failed)} of 10 answers had failed in saved and stay failed" in result.stderr
    assert unlike(contents("billed"), contents("fresh")) == []


# Measured compute


def test_measured_compute_is_that_of_the_saved_run():
    evaluated("saved")
    rebilled("saved", "billed", "--rtt-s", "0.25")
    for before, now in zip(lines("saved/samples.jsonl"), lines("billed/samples.jsonl"), strict=True):
        for name in ("draft_s", "forward_s", "bs_busy_s", "open_forward_s"):
            assert now[name] == pytest.approx(before[name], rel=1e-8)
        # Open, and each round, or the one round of `llm`.
        trips = {"slm": 0, "llm": 2}.get(now["policy"], 1 + now["uploaded"])
        assert now["link_s"] - before["link_s"] == pytest.approx(0.25 * trips)


def test_nothing_changed_is_the_same_bill():
    evaluated("saved")
    result = rebilled("saved", "billed")
    assert result.stderr.splitlines()[0] == "billed again with the same prices"
    # Lines of tokens hold 9 digits of a measured time, and a sample the sum of more.
    assert unlike(contents("billed"), contents("saved"), tolerance=1e-6) == []


# What is kept, and what is said


def test_scores_are_carried_over_and_the_origin_is_told():
    evaluated("saved", *TIMED)
    document = json.loads(Path("saved/results.json").read_text())
    document["provenance"] |= {"metric_hash": "encoder-7", "cpu": "another machine's"}
    for entry in document["policies"]:
        entry["bertscore_f1"] = {"mean": 0.5, "low": 0.25, "high": 0.75}
    Path("saved/results.json").write_text(json.dumps(document))
    Path("saved/scores.jsonl").write_text('{"policy":"hlm","prompt":0,"bertscore_f1":0.5}\n')
    rebilled("saved", "billed", "--rtt-s", "1")
    billed = json.loads(Path("billed/results.json").read_text())
    assert [entry["bertscore_f1"]["high"] for entry in billed["policies"]] == [0.75] * len(POLICIES)
    assert Path("billed/scores.jsonl").read_text() == Path("saved/scores.jsonl").read_text()
    assert "encoder-7" in Path("billed/table.md").read_text()
    assert billed["provenance"]["metric_hash"] == "encoder-7"
    assert billed["provenance"]["rebilled_from"] == {
        "digest": json.loads(Path("saved/run.json").read_text())["digest"],
        "changed": ["link.rtt_s: 0.0 → 1.0"],
        "provenance": document["provenance"],
    }


@pytest.mark.parametrize("form", ["table", "json", "csv", "md"])
def test_output_is_that_of_eval(form):
    evaluated("saved", *TIMED)
    fresh = evaluated("fresh", *TIMED, "--link", "none", "--rtt-s", "0.5", "--format", form)
    result = rebilled("saved", "billed", "--link", "none", "--rtt-s", "0.5", "--format", form)
    assert result.stdout == fresh.stdout
    assert result.stderr == (
        "billed again with joules.transmit_w: 0.19952623149688797 → 0.0, "
        "link.radio: {'bandwidth_hz': 1000000.0, 'transmit_power_dbm': 23.0, 'noise_dbm': -104.0, "
        "'distance_m': 2500.0, 'path_loss_exponent': 4.0} → None, link.rtt_s: 0.0 → 0.5\n"
        "written to billed\n"
    )


def test_table_of_a_run_of_one_policy():
    evaluated("saved", *TIMED, "--limit", 1, policies=("slm",))
    result = rebilled("saved", "billed", "--draft-time-s", "0.5")
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "",
        "         BERTScore      cosine  upload  reject  η      λ         LLM fwd  model bit",
        " policy         F1  similarity       %       %  %  paper  tok/s   /token     /token",
        " ──────────────────────────────────────────────────────────────────────────────────",
        " slm             –           –     0.0       –  –   0.53   2.00     0.00          0",
        "",
    ]


def test_settings_come_from_the_environment_and_a_file_too(tmp_path):
    evaluated("saved", *TIMED)
    (tmp_path / "prices.toml").write_text("rtt_s = 0.5\ndistance-m = 900.0\n")
    rebilled("saved", "billed", "--config", tmp_path / "prices.toml", UIHLM_REBILL_B_PROB="16")
    link = json.loads(Path("billed/run.json").read_text())["config"]["link"]
    assert (link["rtt_s"], link["radio"]["distance_m"], link["b_prob"]) == (0.5, 900.0, 16)


def test_named_link_leaves_what_it_does_not_name():
    evaluated("saved", *TIMED, "--b-prob", "16", "--fading", "block", "--fading-seed", "4", "--devices", "2")
    rebilled("saved", "billed", "--link", "nr")
    link = json.loads(Path("billed/run.json").read_text())["config"]["link"]
    assert (link["b_prob"], link["fading"], link["fading_seed"], link["devices"]) == (16, "block", 4, 2)
    assert (link["rtt_s"], link["radio"]["bandwidth_hz"]) == (0.02, 20e6)


def test_folder_without_a_name_is_dated():
    evaluated("saved", *TIMED, policies=("slm",))
    result = invoke("rebill", "saved")
    assert result.exit_code == 0
    (folder,) = Path("runs").glob("rebill-*")
    assert result.stderr.endswith(f"written to {folder}\n")


# What is refused


def test_refusals_are_sentences_and_leave_nothing_behind():
    evaluated("saved", *TIMED)
    rounds = Path("saved/rounds.jsonl").read_text()
    assert '"origin":"local"' in rounds
    Path("saved/rounds.jsonl").write_text(rounds.replace('"origin":"local"', '"origin":"outage"'))
    result = rebilled("saved", "billed", exit_code=1)
    assert result.stdout == ""
    assert result.stderr.startswith(
        "Error: saved cannot be billed again: the link was lost and the device wrote on alone, so that its tokens depend on "
        "the clock (prompt 0 under slm); run it"
    )
    assert sorted(path.name for path in Path().iterdir()) == ["saved"]


def test_run_of_trees_is_refused():
    evaluated("saved", *TIMED, "--tree", "4", "--codec", "coupled", policies=("hlm",))
    result = rebilled("saved", "billed", exit_code=1)
    assert "saved cannot be billed again: an upload carried a tree of drafts, and those off the path" in result.stderr


def test_exit_codes_of_what_cannot_be_done():
    evaluated("saved", *TIMED, policies=("hlm",))
    assert "does not exist" in rebilled("nowhere", "billed", exit_code=2).stderr
    assert "--clock" in rebilled("saved", "billed", "--clock", "enforced", exit_code=2).stderr
    Path("empty").mkdir()
    assert "empty holds no run" in rebilled("empty", "billed", exit_code=1).stderr
    assert "saved is not empty: name another --output" in rebilled("saved", "saved", exit_code=1).stderr
    lost = rebilled("saved", "lost", "--fading", "slotted", "--coherence-s", "1e-9", exit_code=4)
    assert "use a stronger link" in lost.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["empty", "saved"]
