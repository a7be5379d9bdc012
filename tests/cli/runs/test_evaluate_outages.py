"""`eval` on a link that is lost: it fails, waits or goes on as told, and a run says what it went through."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_pair import STOP, V, Weights, chatty
from fakes import FakeEngine, mixed, serving
from proxy import Fault, Proxy
from uihlm_cli.device import main
from uihlm_device.tokens import Origin

TIMED = ("--draft-time-s", "0.01", "--forward-time-s", "0.02")


pytestmark = pytest.mark.usefixtures("weights")


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.jsonl"
    rows = [{"instruction": f"Say {i}.", "output": f"{i}"} for i in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    engine = FakeEngine(mixed(chatty(1), chatty(2), 0.4), V, [STOP])
    with serving(engine) as address, Proxy(address) as proxy:
        yield proxy


def evaluate(prompts: str, *arguments: object, output: str = "run") -> Result:
    usual = ["--dataset", prompts, "--max-tokens", "16", "--no-metrics", "--output", output, *TIMED]
    result = CliRunner().invoke(main, ["eval", *usual, *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def policies(folder: str = "run") -> dict[str, dict]:
    return {entry["policy"]: entry for entry in json.loads(Path(folder, "results.json").read_text())["policies"]}


def test_waiting_run_has_the_text_of_an_undisturbed_one_and_says_what_it_went_through(prompts, proxy):
    asked = ("--policy", "llm", "--policy", "hlm", "--policy", "u", "--server", proxy.address, "--on-outage", "wait")
    assert evaluate(prompts, *asked, output="whole").exit_code == 0
    proxy.fault, proxy.every = Fault.CLOSE, 15
    result = evaluate(prompts, *asked)
    assert result.exit_code == 0, result.output
    whole, disturbed = lines("whole/samples.jsonl"), lines("run/samples.jsonl")
    for name in ("text", "tokens", "uploaded", "rejected", "llm_log_prob"):
        assert [sample[name] for sample in disturbed] == [sample[name] for sample in whole], name
    assert sum(sample["lost_links"] for sample in disturbed) > 2
    assert {sample["outage_tokens"] for sample in disturbed} == {0}
    assert {sample["lost_links"] for sample in whole} == {0}
    assert sum(entry["lost_links"] for entry in policies().values()) == sum(s["lost_links"] for s in disturbed)
    assert "The link was lost under" in Path("run/table.md").read_text()
    assert "note: The link was lost under" in result.stderr
    assert "link was lost" not in Path("whole/table.md").read_text()
    rebilled = [CliRunner().invoke(main, ["rebill", name, "--output", f"{name}-nr"]) for name in ("whole", "run")]
    assert [result.exit_code for result in rebilled] == [0, 1]
    assert "cannot be billed again: the link was lost" in rebilled[1].stderr


def test_run_that_goes_on_alone_counts_its_tokens(prompts, proxy, weights):
    def before(weights: Weights) -> None:
        if weights.drafts == 20:
            proxy.away()
        elif weights.drafts == 30:
            proxy.back()
        elif weights.drafts > 30:
            time.sleep(0.01)

    weights.before_draft = before
    asked = ("--policy", "hlm", "--server", proxy.address, "--no-agreement", "--on-outage", "local")
    result = evaluate(prompts, *asked, "--outage-s", "0.2")
    assert result.exit_code == 0, result.output
    rounds = lines("run/rounds.jsonl")
    count = sum(line["origin"] == Origin.OUTAGE for line in rounds)
    first = [line["origin"] for line in rounds].index(Origin.OUTAGE)
    assert {Origin.ACCEPTED, Origin.RESAMPLED} <= {line["origin"] for line in rounds[first:]}, "it never came back"
    hlm = policies()["hlm"]
    assert (hlm["outage_tokens"], hlm["uploaded"]) == (count, len(rounds) - count)
    assert hlm["lost_links"] >= 1
    assert hlm["skipped_risk"] is None, "what nobody asked about carries a risk that nobody told"
    assert f"({count} tokens kept unasked)" in Path("run/table.md").read_text()
    rebilled = CliRunner().invoke(main, ["rebill", "run"])
    assert rebilled.exit_code == 1 and "cannot be billed again" in rebilled.stderr


def test_run_fails_with_4_unless_it_was_told_to_do_otherwise(prompts, proxy, weights):
    weights.before_draft = lambda weights: proxy.away() if weights.drafts == 20 else None
    failed = evaluate(prompts, "--policy", "hlm", "--server", proxy.address)
    assert failed.exit_code == 4
    assert "--resume --output run go on with it" in failed.stderr
    proxy.back()
    assert evaluate(prompts, "--policy", "hlm", "--server", proxy.address, "--resume").exit_code == 0
    assert policies()["hlm"]["lost_links"] == 0


@pytest.mark.parametrize("what", ["local", "wait", "fail"])
def test_base_station_that_was_never_there_exits_4(prompts, what):
    result = evaluate(prompts, "--policy", "hlm", "--server", "127.0.0.1:1", "--on-outage", what)
    assert result.exit_code == 4
    assert "no base station answers at 127.0.0.1:1" in result.stderr


def test_settings_say_what_was_to_happen(prompts, proxy):
    asked = ("--policy", "slm", "--server", proxy.address)
    assert evaluate(prompts, *asked, "--on-outage", "local", "--outage-s", "3").exit_code == 0
    config = json.loads(Path("run/results.json").read_text())["config"]
    assert config["decode"]["outage"] == {"on_outage": "local", "patience_s": 3.0}
    other = evaluate(prompts, *asked, "--resume")
    assert other.exit_code == 1 and "outage" in other.stderr
    assert evaluate(prompts, *asked, output="plain").exit_code == 0
    assert "outage" not in json.loads(Path("plain/results.json").read_text())["config"]["decode"]


def test_wait_without_anything_to_wait_for_is_a_usage_error(prompts):
    result = evaluate(prompts, "--outage-s", "3")
    assert result.exit_code == 2
    assert "give --on-outage local or wait" in result.stderr
