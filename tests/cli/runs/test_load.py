"""`eval --load`: forwards last as the batch curve says, and their joules are shared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluating import by_policy, done, evaluate, results
from uihlm_cli.options.load import loaded as charges
from uihlm_evaluation.planning.bundled import bundled_profile, figures_of
from uihlm_evaluation.planning.equations import loaded

pytestmark = pytest.mark.usefixtures("weights")

ARGUMENTS = ("--policy", "llm", "--policy", "hlm", "--link", "none", "--draft-time-s", "0.01", "--max-tokens", "12")


def test_a_run_under_load_is_charged_what_a_plan_charges(prompts):
    done("--dataset", prompts, *ARGUMENTS, "--load", "4", "--output", "loaded")
    timing = loaded(figures_of(bundled_profile()), 4)
    given = ("--forward-time-s", timing.forward_s, "--position-time-s", timing.position_s, "--basestation-w", 75)
    done("--dataset", prompts, *ARGUMENTS, *given, "--output", "given")
    assert results("loaded")["policies"] == results("given")["policies"]
    charged = results("loaded")["config"]["timing"]
    assert (charged["forward_s"], charged["position_s"]) == (timing.forward_s, timing.position_s)


def test_times_that_are_given_are_scaled_and_joules_shared(prompts):
    times = ("--forward-time-s", "0.1", "--position-time-s", "0.02")
    done("--dataset", prompts, *ARGUMENTS, *times, "--output", "alone")
    done("--dataset", prompts, *ARGUMENTS, *times, "--load", "16", "--output", "crowded")
    alone, crowded = by_policy("alone")["llm"], by_policy("crowded")["llm"]
    slowdown = figures_of(bundled_profile()).slowdown(16)
    assert alone["throughput_tok_s"] == pytest.approx(slowdown * crowded["throughput_tok_s"], rel=1e-6)
    assert crowded["basestation_j"] == pytest.approx(slowdown / 16 * alone["basestation_j"])


def test_the_curve_of_a_profile_comes_before_the_shipped_one():
    shipped = bundled_profile()
    flat = tuple(replace(point, slowdown=1.0) for point in figures_of(shipped).load)
    values = {
        "load": 8, "clock": "simulated", "forward_time_s": 0.1, "position_time_s": None, "basestation_w": 80.0,
        "profile": replace(shipped, plan=replace(figures_of(shipped), load=flat)), "model": "other", "llm": None,
    }  # fmt: skip
    found = charges(values)
    assert (found.forward_s, found.position_s, found.basestation_w) == (0.1, 0.0, 10.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--clock", "enforced"), "load is modelled, and an enforced clock takes what forwards really take"),
        (("--model", "other.gguf"), "the batch curve of these models is not known: give --profile"),
        (("--load", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_loaded_exits_2(prompts, arguments, says):
    result = evaluate("--dataset", prompts, "--load", "4", *arguments)
    assert result.exit_code == 2 and says in " ".join(result.stderr.split())


def test_without_load_nothing_is_fixed(prompts):
    done("--dataset", prompts, "--policy", "llm", "--max-tokens", "4")
    assert results()["config"]["timing"]["forward_s"] is None
    assert Path("run").is_dir() and json.loads(Path("run/results.json").read_text())
