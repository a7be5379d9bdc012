"""`uihlm-device link-trace`: what it writes is what --link-trace reads, and says what made it."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner, Result

from uihlm_cli.device import main
from uihlm_wireless import nr_trace
from uihlm_wireless.nr_trace import NrSettings, NrTrace
from uihlm_wireless.trace_file import LinkTrace


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NrSettings]:
    """Sionna's part, faked: two blocks, one lost."""
    settings: list[NrSettings] = []

    def made(asked: NrSettings, on_slot: object) -> NrTrace:
        settings.append(asked)
        return NrTrace([250e3, 0.0, 750e3], 0.001, 1 / 3, 4.0, 2e6)

    monkeypatch.setattr(nr_trace, "nr_trace", made)
    monkeypatch.setattr(nr_trace, "versions", lambda: "sionna 2.2.0, torch 2.13.0")
    return settings


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["link-trace", *map(str, arguments)])


def test_flags_reach_the_channel(asked):
    result = invoke(
        "--snr-db", -3, "--model", "D", "--delay-spread-s", 1e-7, "--speed-m-s", 30, "--carrier-hz", 2e9,
        "--resource-blocks", 10, "--subcarrier-spacing-hz", 30000, "--mcs-table", 2, "--bler-target", 0.2,
        "--duration-s", 1, "--seed", 5,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert asked == [NrSettings(-3.0, "D", 1e-7, 30.0, 2e9, 10, 30e3, 2, 0.2, 1.0, 5)]
    invoke()
    assert asked[1] == NrSettings(snr_db=10.0)


def test_the_file_is_a_trace_that_says_what_made_it(asked, tmp_path):
    path = tmp_path / "new" / "walk.csv"
    result = invoke("--snr-db", 0, "--output", path)
    trace = LinkTrace.of(path).load()
    assert (trace.length_s, trace.mean_rate_bit_s) == (0.003, pytest.approx(1e6 / 3))
    text = path.read_text()
    assert text.startswith("# uihlm-device link-trace: snr_db 0.0, model C, delay_spread_s 3e-07,")
    assert "# sionna 2.2.0, torch 2.13.0\n" in text
    words = "0.3333 Mbit/s, 33.3% of blocks lost, mean MCS 4.0; Shannon on this channel: 2 Mbit/s"
    assert f"# {words}\nseconds,bit_s\n0,250000\n0.001,0\n0.002,750000\n" in text
    assert (result.stdout, result.stderr) == ("", words + "\n")


def test_without_output_the_trace_goes_to_stdout(asked):
    result = invoke()
    assert result.stdout.endswith("0.001,0\n0.002,750000\n")


def test_a_trace_without_a_bit_is_warned_of(asked, monkeypatch):
    monkeypatch.setattr(nr_trace, "nr_trace", lambda *_: NrTrace([0.0], 0.001, 1.0, 3.0, 1e5))
    assert "not one block got through" in invoke().stderr


@pytest.mark.parametrize("wrong", [("--subcarrier-spacing-hz", 20000), ("--mcs-table", 3), ("--snr-db", 400)])
def test_what_no_cell_has_is_a_usage_error(asked, wrong):
    result = invoke(*wrong)
    assert (result.exit_code, asked) == (2, [])
    assert wrong[0][2:].replace("-", "_") in result.stderr


def test_without_sionna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sionna", None)
    result = invoke()
    assert (result.exit_code, "pip install 'uihlm[sionna]'" in result.stderr) == (1, True)


def test_a_plan_takes_no_snr_beside_a_trace(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("0,1000\n")
    result = CliRunner().invoke(main, ["plan", "--link-trace", str(path), "--snr-db", "3"])
    assert (result.exit_code, "leave --snr-db out" in " ".join(result.stderr.split())) == (2, True)
