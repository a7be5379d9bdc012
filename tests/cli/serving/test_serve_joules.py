"""Joules of `uihlm-device serve`: measured beside modelled in the usage of every answer, whole or streamed."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner

from endpoints import served, slowly, wordy
from fake_counters import FakeCounters, FakeMachine, install_zeus
from fake_pair import installed
from stations import eventually, standing
from uihlm_cli.device import main
from uihlm_cli.options import meters

MESSAGES = [{"role": "user", "content": "Name a river"}]
ENDS = ("measured_device_j", "measured_basestation_j", "measured_machine_j", "measured_j")
ALONE = ("--parallel", "1")
ZEUS = ("--meter", "zeus", *ALONE)
CSV = ("--meter", "csv", "--meter-device", "wall.csv", *ALONE)


@pytest.fixture
def weights(monkeypatch, tmp_path):
    weights = installed(monkeypatch, tmp_path)
    weights.speaks = wordy
    return weights


@pytest.fixture
def machine(monkeypatch) -> FakeMachine:
    """10 J a window: 4 of them a GPU's."""
    return install_zeus(monkeypatch, FakeMachine(gpus=(4.0,), zones=(("package-0", 5.0),), dram={0: 1.0}))


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=30)


def cost(url: str, stream: bool = False, **named: Any) -> dict[str, Any]:
    """What the usage of an answer has under `uihlm`."""
    fields = {"model": "uihlm", "messages": MESSAGES, "seed": 3, "max_tokens": 8, **named}
    if not stream:
        return client(url).chat.completions.create(**fields).usage.uihlm
    chunks = list(client(url).chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    return chunks[-1].usage.uihlm


def ends(split: dict[str, Any]) -> tuple[float | None, ...]:
    return tuple(split[name] for name in ENDS)


def wall(name: str, start_s: int, end_s: int, watts: float = 20.0) -> None:
    """A wall meter's readings, one a second from and to so many seconds from now."""
    now_s = time.time()
    lines = [f"{now_s + second:.3f},{watts}\n" for second in range(start_s, end_s + 1)]
    Path(name).write_text("time,watts\n" + "".join(lines))


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["serve", "--port", "0", *arguments])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return " ".join(result.stderr.split())


# Counters


@pytest.mark.parametrize("stream", [False, True])
def test_one_machine_has_one_counter_and_its_joules_are_never_split(stream, weights, machine, monkeypatch, capsys):
    with served(monkeypatch, *ZEUS) as endpoint:
        before_s = time.time()
        answers = [cost(endpoint.url, stream) for _ in range(2)]
        after_s = time.time()
    for split in answers:
        assert ends(split) == (None, None, 10.0, 10.0)
        assert split["measured_note"] is None
        # The modelled ones beside them: 5 W while drafting, 300 W while the LLM runs.
        assert split["energy_j"] == pytest.approx(5.0 * split["draft_s"] + 300.0 * split["bs_busy_s"])
        assert before_s <= split["started_unix_s"] < split["ended_unix_s"] <= after_s
    assert answers[0]["ended_unix_s"] <= answers[1]["started_unix_s"]
    assert machine.windows == [], "every window was ended"
    assert "measuring the joules of device and base station together: gpu0, cpu0" in capsys.readouterr().err


@pytest.mark.parametrize("stream", [False, True])
def test_base_station_elsewhere_tells_its_own_joules(stream, weights, machine, monkeypatch, capsys):
    with standing(weights.engine(), counters=FakeCounters(3.0)) as station:
        flags = ("--server", str(station.address), "--meter-apart", *ZEUS)
        with served(monkeypatch, *flags) as endpoint:
            split = cost(endpoint.url, stream)
        with served(monkeypatch, *flags, "--policy", "slm") as endpoint:
            alone = cost(endpoint.url, stream)
    told_j = 3.0 * split["llm_forwards"]
    assert split["llm_forwards"] > 1
    assert ends(split) == (10.0, pytest.approx(told_j), None, pytest.approx(10.0 + told_j))
    # What was never asked spent nothing.
    assert ends(alone) == (10.0, 0.0, None, 10.0)
    assert "measuring the joules of the device: gpu0, cpu0" in capsys.readouterr().err


def test_a_base_station_on_the_same_machine_is_in_its_counters_already(weights, machine, monkeypatch):
    with (
        standing(weights.engine(), counters=FakeCounters(3.0)) as station,
        served(monkeypatch, "--server", str(station.address), *ZEUS) as endpoint,
    ):
        assert ends(cost(endpoint.url)) == (None, None, 10.0, 10.0)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_base_station_tells_needs_no_meter_here(stream, weights, monkeypatch):
    with (
        standing(weights.engine(), counters=FakeCounters(3.0)) as station,
        served(monkeypatch, "--server", str(station.address), "--parallel", "2") as endpoint,
    ):
        split = cost(endpoint.url, stream)
    assert ends(split) == (None, pytest.approx(3.0 * split["llm_forwards"]), None, None)
    assert split["measured_note"] is split["started_unix_s"] is split["ended_unix_s"] is None


@pytest.mark.parametrize("policy", ["hlm", "slm"])
def test_where_nobody_measures_everything_is_null(policy, weights, monkeypatch):
    with served(monkeypatch, "--policy", policy) as endpoint:
        split = cost(endpoint.url)
    assert ends(split) == (None,) * 4
    assert split["energy_j"] > 0.0


def test_the_llms_opinion_is_outside_the_window(weights, monkeypatch):
    counters = FakeCounters()
    monkeypatch.setattr(meters, "zeus_counters", lambda: (counters, counters.domains, ()))
    weights.before_draft = lambda weights: counters.spend(1.0)
    with served(monkeypatch, *ZEUS) as endpoint:
        before = weights.drafts
        scoring = weights.engines[0].forward
        monkeypatch.setattr(weights.engines[0], "forward", lambda work: (counters.spend(0.001), scoring(work))[1])
        plain, scored = cost(endpoint.url), cost(endpoint.url, logprobs=True)
        drafts = weights.drafts - before
    assert plain["measured_machine_j"] + scored["measured_machine_j"] == pytest.approx(
        drafts + 0.001 * (plain["llm_forwards"] + scored["llm_forwards"])
    )
    assert counters.total_j > drafts + 0.001 * (plain["llm_forwards"] + scored["llm_forwards"])


def test_who_leaves_closes_the_window_of_the_answer(weights, machine, monkeypatch):
    weights.before_draft = slowly(0.01)
    weights.speaks = lambda salt: wordy(salt, stops=False)
    with served(monkeypatch, *ZEUS) as endpoint:
        chunks = client(endpoint.url).chat.completions.create(
            model="uihlm", messages=MESSAGES, max_tokens=3000, stream=True
        )
        next(chunks)
        assert len(machine.windows) == 1
        chunks.close()
        assert eventually(lambda: not machine.windows)
        # In mid-wait for the link, too; and the next answer has a window of its own.
        with pytest.raises(openai.APITimeoutError):
            client(endpoint.url).with_options(timeout=0.2).chat.completions.create(
                model="uihlm", messages=MESSAGES, max_tokens=3000
            )
        assert ends(cost(endpoint.url)) == (None, None, 10.0, 10.0)
    assert machine.windows == []


def test_counters_that_fail_in_mid_serving_cost_no_answer(weights, machine, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING), served(monkeypatch, *ZEUS) as endpoint:
        assert ends(cost(endpoint.url)) == (None, None, 10.0, 10.0)
        machine.broken = True
        after = [cost(endpoint.url, stream) for stream in (False, True, False)]
        text = client(endpoint.url).chat.completions.create(model="uihlm", messages=MESSAGES, seed=3, max_tokens=8)
    assert text.usage.completion_tokens == 8
    for split in after:
        assert ends(split) == (None,) * 4
        assert split["measured_note"] == "the energy counters cannot be read any more"
        assert split["energy_j"] > 0.0
    assert [message for message in caplog.messages if "counters cannot be read" in message] == [
        "an answer's joules are not measured: the energy counters cannot be read any more: the driver is gone (said once; "
        "the usage of each answer tells)"
    ]


def test_idle_machine_is_measured_before_anything_is_loaded(weights, machine, monkeypatch, capsys):
    with served(monkeypatch, *ZEUS, "--meter-idle-s", "0.01"):
        pass
    said = capsys.readouterr().err
    assert re.search(r"measuring the idle machine for 0\.01 s …\nidle, it draws \d+\.\d W\nloading ", said)


# A wall meter


@pytest.mark.parametrize("stream", [False, True])
def test_wall_meter_is_read_as_far_as_it_has_come(stream, weights, monkeypatch, caplog, capsys):
    with caplog.at_level(logging.WARNING), served(monkeypatch, *CSV) as endpoint:
        missing = cost(endpoint.url, stream)
        wall("wall.csv", -60, -30)
        early = cost(endpoint.url, stream)
        wall("wall.csv", -60, 600)
        whole = cost(endpoint.url, stream)
    assert ends(missing) == ends(early) == (None,) * 4
    assert missing["measured_note"] == "the wall meter's file cannot be read"
    assert early["measured_note"] == "the wall meter's file does not reach over this answer"
    # With its times the answer can be laid over the file later.
    seconds = whole["ended_unix_s"] - whole["started_unix_s"]
    assert 0.0 < seconds < 30.0
    assert ends(whole)[:2] == (None, None)
    assert ends(whole)[2:] == (pytest.approx(20.0 * seconds, rel=1e-3),) * 2
    assert whole["measured_note"] is None
    logged = [message for message in caplog.messages if "not measured" in message]
    assert ["wall.csv" in message for message in logged] == [True, True]
    assert "note: wall.csv is not there yet: it is read after the answers" in capsys.readouterr().err


def test_wall_meters_at_both_ends_take_the_place_of_what_is_told(weights, monkeypatch):
    wall("wall.csv", -60, 600, 20.0)
    wall("rack.csv", -60, 600, 200.0)
    with standing(weights.engine(), counters=FakeCounters(3.0)) as station:
        flags = (*CSV, "--meter-basestation", "rack.csv", "--meter-apart", "--server", str(station.address))
        with served(monkeypatch, *flags) as endpoint:
            split = cost(endpoint.url)
            wall("rack.csv", -60, -30)
            short = cost(endpoint.url)
    seconds = split["ended_unix_s"] - split["started_unix_s"]
    expected = [pytest.approx(watts * seconds, rel=1e-3) for watts in (20.0, 200.0, 220.0)]
    assert ends(split) == (expected[0], expected[1], None, expected[2])
    assert ends(short) == (None,) * 4
    assert short["measured_note"] is not None


# Refusals


@pytest.mark.parametrize("parallel", [(), ("--parallel", "2")], ids=["default", "2"])
@pytest.mark.parametrize("meter", [("zeus",), ("csv", "--meter-device", "wall.csv")], ids=lambda meter: meter[0])
def test_answers_at_once_cannot_be_told_apart(meter, parallel, weights, machine, monkeypatch):
    wall("wall.csv", -60, 600)
    monkeypatch.setattr(weights, "resolve", None)
    said = refused("--meter", *meter, *parallel)
    assert "one meter, which cannot tell them apart" in said
    assert f"give --parallel 1 with --meter {meter[0]}" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--meter", "csv"), "csv needs the wall meter's file"),
        (("--meter-device", "wall.csv"), "give --meter csv with it"),
        (("--meter-idle-s", "5"), "there is no meter to read"),
        (("--meter", "csv", "--meter-basestation", "wall.csv"), "one meter reads both"),
    ],
)
def test_flags_that_measure_nothing_are_refused(flags, said, weights, machine):
    wall("wall.csv", -60, 600)
    assert said in refused(*flags, *ALONE)
