"""`uihlm-device score` on packs of a known law: exact output, formats, and rules of others."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trace_packs import lawful_pack, saved, telling_pack
from uihlm_cli.device import main


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    saved(lawful_pack(8, 20), folder / "lawful")
    saved(telling_pack(8, 20), folder / "telling")
    return folder


@pytest.fixture(autouse=True)
def here(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(packs)


def invoked(*arguments: object, **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(main, ["score", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: object, **environment: str) -> str:
    result = invoked(*arguments, **environment)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_table_is_this(packs):
    table = done("u", "policy:u", "--trace", "lawful")
    assert "".join(f"{line.rstrip()}\n" for line in table.splitlines()) == TABLE


def test_markdown_is_this(packs):
    text = done("u", "policy:slm", "--trace", "lawful", "--format", "md")
    assert text.startswith(MARKDOWN)
    assert text.removeprefix(MARKDOWN).startswith("Brackets: 95 % bootstrap interval over prompts. Area: under")


def test_one_prompt_has_no_interval(tmp_path):
    # Two prompts, one of them held out.
    saved(lawful_pack(2, 20), tmp_path / "small")
    sentence = "warning: one prompt has no interval, and ±0.0 says nothing: trace more prompts\n"
    assert invoked("u", "--trace", tmp_path / "small").stderr.endswith(sentence)
    assert sentence not in invoked("u", "--trace", "lawful").stderr


def test_with_no_rule_all_of_ours_are_scored():
    document = json.loads(done("--trace", "telling", "--format", "json"))
    rules = [entry["rule"] for entry in document["rules"]]
    assert sorted(rules) == sorted(["u", "confidence", "entropy", "i", "ui", "learned", "random", "oracle"])
    assert rules[:2] == ["oracle", "learned"]
    without = invoked("--trace", "lawful", "--format", "json")
    assert "learned" not in [entry["rule"] for entry in json.loads(without.stdout)["rules"]]
    assert without.stderr == "note: the pack has no hidden states, so rule learned is left out\n"


def test_formats_hold_the_same_numbers():
    document = json.loads(done("policy:u", "--trace", "lawful", "--format", "json"))
    assert document["pack"]["dataset"] == "a known law" and document["pack"]["slm"] == ["small", "5" * 64]
    rows = list(csv.DictReader(io.StringIO(done("policy:u", "--trace", "lawful", "--format", "csv"))))
    u = next(entry for entry in document["rules"] if entry["rule"] == "u")
    found = {(row["kind"], row["name"], row["quantity"], row["upload_rate"]): row for row in rows}
    assert float(found["rule", "u", "auc", ""]["low"]) == u["auc"]["low"]
    assert len(u["rates"]) == 19
    for point in u["rates"]:
        row = found["rule", "u", "caught", str(point["rate"])]
        assert [float(row[name]) for name in ("mean", "low", "high")] == list(point["caught"].values())
    (policy,) = document["policies"]
    rate = str(policy["upload_rate"]["mean"])
    assert float(found["policy", "u", "caught", rate]["mean"]) == policy["caught"]["mean"]
    assert float(found["policy", "u", "oracle", rate]["mean"]) == policy["oracle"]


def test_thresholds_side_and_seed_are_flags_and_variables():
    def document(*arguments, **environment):
        return json.loads(done("policy:u", "--trace", "lawful", "--format", "json", *arguments, **environment))

    assert document("--theta-u", 0.9)["policies"] == document(UIHLM_SCORE_THETA_U="0.9")["policies"]
    assert document("--theta-u", 0.9)["policies"] != document()["policies"]
    assert document("--side", "all")["prompts"] == 8 and document("--side", "train")["prompts"] == 4
    assert document("--seed", 1)["rules"] != document()["rules"]


def test_a_rule_in_a_file_is_scored(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def backwards(seen):\n    return -seen.u\n")
    name = f"{file}:backwards"
    found = {entry["rule"]: entry for entry in json.loads(done(name, "--trace", "lawful", "--format", "json"))["rules"]}
    assert found[name]["auc"]["mean"] < 0.5 < found["u"]["auc"]["mean"]


def test_a_rule_scored_on_what_it_was_fitted_to_is_marked(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def mine(seen):\n    return seen.u\n\n\nmine.fit = lambda trace: mine\n", encoding="utf-8"
    )
    rule = f"{tmp_path / 'mine.py'}:mine"
    for side, marked in (("held-out", False), ("train", True), ("all", True)):
        result = invoked(rule, "u", "--trace", "lawful", "--side", side)
        assert result.exit_code == 0, result.output
        assert (f"mine is fitted to tokens that --side {side} scores it on" in result.stderr) is marked


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("margin", "--trace", "lawful"), 1, "unknown rule 'margin'"),
        (("policy:margin", "--trace", "lawful"), 1, "unknown policy 'margin'"),
        (("learned", "--trace", "lawful"), 1, "holds no hidden states"),
        (("policy:learned", "--trace", "lawful"), 1, "score the rule `learned`"),
        (("u", "--trace", "."), 1, "there is no trace pack in ."),
        (("u", "--trace", "gone"), 2, "'gone' does not exist"),
        (("u",), 2, "Missing option '--trace'"),
    ],
)
def test_what_cannot_be_scored_is_said(arguments, code, sentence):
    result = invoked(*arguments)
    assert (result.exit_code, result.stdout) == (code, "") and sentence in result.stderr


def test_scoring_loads_no_model_library():
    probe = (
        "import sys\nfrom click.testing import CliRunner\nfrom uihlm_cli.device import main\n"
        "assert CliRunner().invoke(main, ['score', '--trace', 'telling']).exit_code == 0\n"
        "print([name for name in ('torch', 'transformers', 'llama_cpp', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


TABLE = """\
80 tokens of the held-out 4 prompts, a known law; mean rejection 40.4 %

 rule       area %       way %  gain over u, points  caught % at 20      at 40      at 60
 ────────────────────────────────────────────────────────────────────────────────────────
 oracle  65.1 ±1.0  100.0 ±0.0             1.0 ±0.2       35.3 ±1.1  61.1 ±1.9  81.7 ±2.0
 u       64.1 ±1.1   93.4 ±1.4             0.0 ±0.0       34.4 ±1.6  58.9 ±2.3  80.7 ±2.2
 random  50.0 ±0.0    0.0 ±0.0           -14.1 ±1.1       20.0 ±0.0  40.0 ±0.0  60.0 ±0.0


 policy   upload %   caught %  reject % of uploaded  chance catches %  oracle catches %
 ──────────────────────────────────────────────────────────────────────────────────────
 u       53.8 ±3.7  74.9 ±5.4             56.2 ±3.4              53.8              75.7

± half the 95 % bootstrap interval over prompts. Area: under the share of all rejection caught, over
upload rates 0 … 1. Way: from chance to the oracle, which sees the rejection probability itself.
Gain: area over that of u, in points, paired over prompts.
"""

MARKDOWN = """\
80 tokens of the held-out 4 prompts, a known law; mean rejection 40.4 %

| rule | area % | way % | gain over u, points | caught % at 10 | at 20 | at 40 | at 60 | at 80 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| oracle | 65.1 [64.1, 66.1] | 100.0 [100.0, 100.0] | 1.0 [0.8, 1.1] | 18.9 [18.3, 19.3] | 35.3 [33.6, 35.9] | 61.1 [59.0, 62.8] | 81.7 [80.1, 84.1] | 94.2 [93.3, 94.6] |
| u | 64.1 [63.1, 65.3] | 93.4 [92.3, 95.1] | 0.0 [0.0, 0.0] | 18.2 [17.3, 19.0] | 34.4 [32.3, 35.5] | 58.9 [56.5, 61.2] | 80.7 [78.7, 83.1] | 93.2 [92.5, 93.8] |
| random | 50.0 [50.0, 50.0] | 0.0 [0.0, 0.0] | -14.1 [-15.3, -13.1] | 10.0 [10.0, 10.0] | 20.0 [20.0, 20.0] | 40.0 [40.0, 40.0] | 60.0 [60.0, 60.0] | 80.0 [80.0, 80.0] |

| policy | upload % | caught % | reject % of uploaded | chance catches % | oracle catches % |
| --- | ---: | ---: | ---: | ---: | ---: |
| slm | 0.0 [0.0, 0.0] | – | – | 0.0 | 0.0 |

"""  # noqa: E501
