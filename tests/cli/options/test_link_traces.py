"""The flags of a replayed link: what they set, and what they exclude."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from uihlm_cli.device import main
from uihlm_cli.options.flags import Values
from uihlm_cli.options.link_traces import trace_words
from uihlm_cli.options.settings import link_settings, run_config
from uihlm_cli.runs.evaluate import command
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_wireless.fading import FadingMode
from uihlm_wireless.settings import profile
from uihlm_wireless.trace import TraceEnd
from uihlm_wireless.trace_file import LinkTrace

CONTENT = b"0,250000\n1,500000\n"


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    path = tmp_path / "drive.csv"
    path.write_bytes(CONTENT)
    return path


def parsed(*arguments: object) -> Values:
    return command.make_context("eval", [str(argument) for argument in arguments]).params


def test_a_trace_takes_the_place_of_the_rate_and_leaves_the_rest(drive):
    link = link_settings(parsed("--link", "nr", "--link-trace", drive, "--rtt-s", "0.5", "--transmit-power-dbm", "10"))
    nr = profile("nr")
    assert link.trace == LinkTrace(str(drive), hashlib.sha256(CONTENT).hexdigest(), TraceEnd.LOOP)
    assert (link.rtt_s, link.grant_delay_s, link.downlink) == (0.5, nr.grant_delay_s, nr.downlink)
    assert link.radio.transmit_power_dbm == 10.0
    assert link_settings(parsed("--link-trace", drive, "--link-trace-end", "once")).trace.end is TraceEnd.ONCE


def test_joules_have_a_transmit_power_even_where_the_named_link_has_none(drive):
    config = run_config(parsed("--link", "none", "--link-trace", drive), ("hlm",))
    assert config.joules.transmit_w == pytest.approx(0.1995, abs=1e-4)


def test_settings_with_a_trace_are_read_again_and_those_without_keep_their_digest(drive):
    config = run_config(parsed("--link-trace", drive, "--link-trace-end", "once"), ("hlm",))
    assert RunConfig.from_dict(config.to_dict()) == config
    assert config.digest() != RunConfig().digest()
    assert "trace" not in RunConfig().to_dict()["link"]


@pytest.mark.parametrize(
    "flag",
    [
        ("--bandwidth-hz", "1e6"),
        ("--noise-dbm", "-90"),
        ("--distance-m", "12"),
        ("--path-loss-exponent", "3"),
        ("--fading", "slotted"),
        ("--coherence-s", "0.1"),
    ],
)
def test_what_the_trace_says_is_not_said_twice(drive, flag):
    with pytest.raises(click.BadParameter, match=f"leave {flag[0]} out"):
        link_settings(parsed("--link-trace", drive, *flag))


def test_no_fading_is_no_contradiction(drive):
    assert link_settings(parsed("--link-trace", drive, "--fading", "none")).fading is FadingMode.NONE


def test_an_end_needs_a_trace():
    with pytest.raises(click.BadParameter, match="no trace to end"):
        link_settings(parsed("--link-trace-end", "once"))


@pytest.mark.parametrize("name", ["chat", "eval", "sweep"])
def test_a_bad_trace_is_a_usage_error_that_names_the_line(tmp_path, name):
    bad = tmp_path / "bad.csv"
    bad.write_text("0,1\n1,-1\n")
    result = CliRunner().invoke(main, [name, "--link-trace", str(bad)])
    assert result.exit_code == 2
    assert "bad.csv, line 2: bit/s must be finite and at least 0" in " ".join(result.stderr.split())


def test_a_dry_run_names_the_trace(drive, tmp_path):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"instruction": "a", "input": "", "output": "b"}\n')
    result = CliRunner().invoke(
        main, ["eval", "--dry-run", "--dataset", str(prompts), "--link-trace", str(drive), "--rtt-s", "0.25"]
    )
    assert "link: trace drive.csv, 2 s at 0.375 Mbit/s, looped, RTT 0.25 s" in result.output
    assert trace_words(profile("nr")) is None
