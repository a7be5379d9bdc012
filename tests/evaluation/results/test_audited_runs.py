"""Runs with audits: what files and results say of skipped tokens, on another link, and after an interruption."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

import fakes
from fakes import FakeDrafter, FakeEngine, contextual, mixed, serving
from same_runs import contents, lines, unlike
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.rules.risk import Recalibrate, RiskController, RiskPolicy
from uihlm_evaluation.prompts.datasets import Dataset, Example
from uihlm_evaluation.results.outcome import ModelFacts, conclude
from uihlm_evaluation.results.rebill import rebill
from uihlm_evaluation.results.saved import SavedRun
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_evaluation.runs.runner import Bench, run
from uihlm_evaluation.runs.samples import Sample
from uihlm_proto.sampling import Sampling
from uihlm_wireless.settings import LinkSettings, profile
from uihlm_wireless.timing import TimingProfile

V, TOKENS = 32, 16
TIMING = TimingProfile(0.01, 0.02)
EXAMPLES = tuple(Example(index, "ask " * (index + 1), "", f"answer {index}") for index in (4, 7, 9, 11, 12, 15))
RULES = PolicySettings(theta_u=0.9, rate=0.6)


def audited(
    output: Path,
    link: LinkSettings,
    examples: Sequence[Example] = EXAMPLES,
    resume: bool = False,
    risk: float | None = None,
) -> tuple[RunConfig, list[Sample]]:
    """Run `hlm`, `u` and `slm` with audits, θ_u moving where a budget is given."""
    online = Recalibrate.OFF if risk is None else Recalibrate.ONLINE
    decode = DecodeSettings(Sampling(), TOKENS, audit=True, risk=risk, recalibrate=online)
    config = RunConfig(
        policies=("hlm", "u", "slm"), decode=decode, rules=RULES, link=link, timing=TIMING, llm=None, model="fake"
    )
    engine = FakeEngine(mixed(contextual(V, 1), contextual(V, 2), 0.5), V)
    with (
        serving(engine) as address,
        fakes.Bench(address, FakeDrafter(contextual(V, 1), V), link=link, timing=TIMING) as device,
    ):
        decoders = {name: device.decoder(name, TOKENS, RULES, audit=True) for name in config.policies}
        if risk is not None:
            controller = RiskController(risk, RULES.theta_u, TOKENS)
            decoders["u"].policy = RiskPolicy(
                controller, lambda at: policy("u", dataclasses.replace(RULES, theta_u=at))
            )
        bench = Bench(decoders, device.clock, device.ledger, lambda text: [5, *range(len(text) // 4)], str)
        samples = run(bench, config, examples, output, resume, lambda progress: None)
    facts = [ModelFacts("slm", "fake", None, None)]
    conclude(output, config, Dataset(tuple(examples), "fake"), facts, V, samples, None)
    return config, samples


def test_files_and_results_tell_the_risk_of_skipping(tmp_path: Path) -> None:
    audited(tmp_path, profile("paper"))
    told = lines(tmp_path / "rounds.jsonl")
    skipped = [line for line in told if line["policy"] == "u" and line["origin"] == "local"]
    of_all = [line for line in told if line["policy"] == "u"]
    assert len(skipped) > 20 and all(line["reject_prob"] is not None for line in skipped)
    hlm, u, slm = contents(tmp_path)["results.json"]["policies"]
    assert u["skipped_risk"] == pytest.approx(sum(line["reject_prob"] for line in skipped) / len(of_all), abs=1e-6)
    assert 0.02 < u["skipped_risk"] < 0.8
    assert u["audit_coverage"] == 1.0 and u["audit_rows"] == len(skipped)
    assert 0 < u["audit_bits"] < 8 * len(skipped), "what came after the last upload is off the bill"
    assert hlm["skipped_risk"] == 0.0 and hlm["audit_bits"] == 0 and hlm["audit_coverage"] is None
    assert slm["skipped_risk"] is None and slm["audit_coverage"] is None


def test_audited_run_is_billed_on_another_link_as_a_fresh_one(tmp_path: Path) -> None:
    audited(tmp_path / "saved", profile("paper"))
    config, _ = audited(tmp_path / "fresh", profile("lpwan"))
    rebill(SavedRun.read(tmp_path / "saved"), config, tmp_path / "billed")
    assert unlike(contents(tmp_path / "billed"), contents(tmp_path / "fresh")) == []


def test_resumed_run_goes_on_at_the_theta_u_it_had_learned(tmp_path: Path) -> None:
    _, whole = audited(tmp_path / "whole", profile("none"), risk=0.05)
    moved = [sample.theta_u for sample in whole if sample.policy == "u"]
    assert moved[0] == RULES.theta_u and len(set(moved)) == len(moved)
    assert {sample.theta_u for sample in whole if sample.policy != "u"} == {None}
    audited(tmp_path / "cut", profile("none"), risk=0.05)
    for name in ("samples.jsonl", "rounds.jsonl"):
        path = tmp_path / "cut" / name
        kept = [line for line in path.read_text().splitlines(keepends=True) if '"prompt":1' not in line]
        path.write_text("".join(kept))
    _, resumed = audited(tmp_path / "cut", profile("none"), resume=True, risk=0.05)
    assert [sample.theta_u for sample in resumed if sample.policy == "u"] == pytest.approx(moved)
