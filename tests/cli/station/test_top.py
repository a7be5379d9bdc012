"""`uihlm-bs top`: what it shows of a base station, on a terminal and into a pipe."""

import csv
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from uihlm_basestation.observing.metrics import PATH, PrometheusTelemetry, exposed
from uihlm_basestation.observing.reading import Distribution, Reading, fetch
from uihlm_basestation.observing.telemetry import Ending, Forward, Round, RoundKind
from uihlm_cli.basestation import main
from uihlm_cli.station.table import lines_of
from uihlm_proto.errors import UihlmError

ROUND = Round(RoundKind.JUDGE, 0.03, 0.02, 0.006, 1, accepted=3, rejected=1, payload_bit=4000, request_bytes=600)


@dataclass
class Served:
    metrics: PrometheusTelemetry
    url: str

    def reading(self) -> Reading:
        return Reading.of(fetch(self.url, 5.0), time.time())

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.metrics.round(ROUND)
            self.metrics.forward(Forward(2, 8, 0.02))


@pytest.fixture
def served() -> Iterator[Served]:
    metrics = PrometheusTelemetry("an LLM of ours")
    metrics.opened()
    metrics.ended(Ending("RESOURCE_EXHAUSTED", stood=False, rounds=0, seconds=0.1))
    with exposed(metrics, "127.0.0.1", 0) as address:
        yield Served(metrics, f"http://{address}{PATH}")


def top(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["top", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_look_says_what_was_counted(served):
    served.rounds(10)
    code, out, _ = top("--metrics", served.url, "--once", "--format", "json")
    look = json.loads(out)
    assert code == 0 and look["engine"] == "an LLM of ours"
    since = {key: entry["since_start"] for key, entry in look.items() if isinstance(entry, dict)}
    assert (since["sessions"], since["acceptance"], since["batch_mean"]) == (1, 0.75, 2)
    uptime_s = look["uptime_s"]
    assert since["rounds_per_s"] == pytest.approx(10 / uptime_s)
    assert since["tokens_per_s"] == pytest.approx(40 / uptime_s)
    assert since["payload_bit_per_s"] == pytest.approx(40_000 / uptime_s)
    assert since["refused_per_s"] == since["ended_per_s"] == pytest.approx(1 / uptime_s)
    # The buckets that 0.03, 0.02 and 0.006 fall into.
    assert 0.016 < since["round_p50_s"] <= 0.032 and 0.016 < since["forward_p99_s"] <= 0.032
    assert 0.004 < since["queue_p50_s"] <= 0.008
    assert all(entry["now"] is None for entry in look.values() if isinstance(entry, dict)), "there was no look before"


def test_now_is_what_came_since_the_look_before(served):
    served.rounds(50)
    before = served.reading()
    served.metrics.round(Round(RoundKind.JUDGE, 3.0, 2.0, 0.6, 1, accepted=0, rejected=1))
    time.sleep(0.05)
    reading = served.reading()
    lines = {line.key: line for line in lines_of(reading, reading.since(before))}
    assert lines["acceptance"].now == 0.0 and lines["acceptance"].total == pytest.approx(150 / 201)
    assert lines["round_p50_s"].now > 2.0 and lines["round_p50_s"].total < 0.1
    assert lines["rounds_per_s"].now == pytest.approx(1 / (reading.seconds - before.seconds))
    assert lines["batch_mean"].now is None, "no forward came"


def test_a_restarted_base_station_has_no_window(served):
    served.rounds(3)
    before = served.reading()
    metrics = PrometheusTelemetry("another")
    with exposed(metrics, "127.0.0.1", 0) as address:
        after = Served(metrics, f"http://{address}{PATH}").reading()
    assert after.since(before) is None


def test_quantiles_are_linear_inside_a_bucket():
    tens = Distribution(10, 15.0, (1.0, 2.0, 4.0, float("inf")), (4.0, 8.0, 9.0, 10.0))
    assert tens.quantile(0.4) == 1.0
    assert tens.quantile(0.6) == pytest.approx(1.5)
    assert tens.quantile(0.85) == pytest.approx(3.0)
    assert tens.quantile(0.99) == 4.0, "beyond the last bound nothing is known"
    assert Distribution().quantile(0.5) is None and Distribution().mean is None


def test_a_pipe_gets_plain_columns(served):
    served.rounds(2)
    code, out, err = top("--metrics", served.url, "--once")
    assert (code, err) == (0, "")
    assert out.isascii() or set(out) - set(map(chr, range(128))) <= {"–", "·"}
    first, header, *rows = out.splitlines()
    assert first.startswith("an LLM of ours · uihlm ")
    assert header.split() == ["now", "since", "start"]
    assert len({len(row) for row in rows}) == 1, "columns line up"
    assert any(re.fullmatch(r"acceptance, % +– +75\.00", row) for row in rows)


def test_tables_for_programs_and_pages_hold_the_same_keys(served):
    served.rounds(2)
    looked = json.loads(top("--metrics", served.url, "--once", "--format", "json")[1])
    rows = list(csv.DictReader(top("--metrics", served.url, "--once", "--format", "csv")[1].splitlines()))
    assert [row["key"] for row in rows] == [key for key in looked if isinstance(looked[key], dict)]
    assert float(next(row for row in rows if row["key"] == "acceptance")["since_start"]) == 0.75
    page = top("--metrics", served.url, "--once", "--format", "md")[1].splitlines()
    assert page[1] == "|---|---:|---:|" and len(page) == len(rows) + 2


def test_nobody_there_exits_4_and_another_page_exits_1(served):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/metrics"
        code, out, err = top("--metrics", url, "--once")
    assert (code, out) == (4, "") and f"no metrics at {url}" in err and "--metrics-port" in err
    code, _, err = top("--metrics", "nonsense", "--once")
    assert code == 4 and "nonsense" in err
    with pytest.raises(UihlmError, match="the page has no uihlm_info"):
        Reading.of("# TYPE up gauge\nup 1\n", 0.0)
    with pytest.raises(UihlmError, match="no metrics page"):
        Reading.of("<html>", 0.0)


@pytest.mark.slow
def test_a_terminal_keeps_one_table_until_interrupted(served):
    """A real terminal, as `isatty` and Ctrl-C are one's; slow because two looks need a process and their time."""
    served.rounds(5)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from uihlm_cli.basestation import main; main()"]
    command += ["top", "--metrics", served.url, "--interval-s", "0.2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    seen = ""
    end = time.monotonic() + 30
    while seen.count("since start") < 3 and time.monotonic() < end:
        seen += os.read(ours, 65536).decode(errors="replace")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    os.close(ours)
    assert seen.count("since start") >= 3 and "\x1b[" in seen, "the table is drawn over itself"
    assert "75.00" in seen
    assert (process.returncode, err) == (130, b"interrupted\n")
