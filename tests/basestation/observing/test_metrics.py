"""The metrics page: what it counts, that it names nobody, and where it is served."""

import re
import socket
import sys
import time
import urllib.request

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual, mixed
from stations import eventually, standing
from uihlm_basestation.observing.metrics import PATH, PrometheusTelemetry, exposed
from uihlm_basestation.observing.reading import Reading
from uihlm_basestation.observing.telemetry import Ending, Forward, Round, RoundKind
from uihlm_device.rules.policies import PolicySettings
from uihlm_device.tokens import Origin
from uihlm_proto.errors import UihlmError, UnavailableError

V = 12
TARGET = contextual(V, salt=1)
LABEL = re.compile(r'(\w+)="([^"]*)"')


def page(address) -> str:
    with urllib.request.urlopen(f"http://{address}{PATH}", timeout=10) as answer:
        return answer.read().decode()


def value(text: str, series: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{series} ")]
    return float(line.split()[-1])


def test_a_run_is_on_the_page_number_for_number():
    metrics = PrometheusTelemetry("fake")
    with exposed(metrics, "127.0.0.1", 0) as address:
        assert value(page(address), "uihlm_sessions") == 0
        with standing(FakeEngine(TARGET, V), telemetry=metrics) as station:
            with Bench(station.address, FakeDrafter(mixed(TARGET, contextual(V, 2), 0.4), V)) as bench:
                records = bench.run("random", max_tokens=60, settings=PolicySettings(rate=0.5))
                payload = bench.ledger.totals().payload_bit
            assert eventually(lambda: value(page(address), 'uihlm_rounds_total{kind="judge"}') > 0)
            assert eventually(lambda: 'uihlm_streams_total{status="OK"} 1.0' in page(address))
        text = page(address)
    origins = [record.origin for record in records]
    assert value(text, 'uihlm_drafts_total{verdict="accepted"}') == origins.count(Origin.ACCEPTED) > 0
    assert value(text, 'uihlm_drafts_total{verdict="rejected"}') == origins.count(Origin.RESAMPLED) > 0
    assert value(text, "uihlm_payload_bits_total") == payload
    rounds = value(text, 'uihlm_rounds_total{kind="judge"}')
    assert rounds == origins.count(Origin.ACCEPTED) + origins.count(Origin.RESAMPLED)
    assert value(text, "uihlm_round_seconds_count") == rounds + 1, "and the opening one"
    assert value(text, "uihlm_forward_seconds_count") == value(text, "uihlm_batch_sessions_sum") > 0
    assert value(text, "uihlm_sessions") == 0


def test_time_passes_where_the_system_tells_nothing_of_processes():
    metrics = PrometheusTelemetry("fake")
    with exposed(metrics, "127.0.0.1", 0) as address:
        text = "\n".join(line for line in page(address).splitlines() if "process_" not in line) + "\n"
    now_s = time.time()
    earlier, later = Reading.of(text, now_s), Reading.of(text, now_s + 2.0)
    assert 0.0 <= earlier.seconds < 60.0
    between = later.since(earlier)
    assert between is not None and between.seconds == pytest.approx(2.0)


def test_no_label_names_a_device_a_session_or_a_token():
    metrics = PrometheusTelemetry("fake")
    with exposed(metrics, "127.0.0.1", 0) as address, standing(FakeEngine(TARGET, V), telemetry=metrics) as station:
        pages = []
        for index in range(2):
            with Bench(station.address, FakeDrafter(contextual(V, 2), V)) as bench:
                bench.run("hlm", index=index, max_tokens=5)
            assert eventually(lambda done=index + 1: f'streams_total{{status="OK"}} {done}.0' in page(address))
            pages.append(page(address))
    series = [{line.split(" ")[0] for line in text.splitlines() if not line.startswith("#")} for text in pages]
    assert series[0] == series[1], "another device adds no series"
    named = {name for line in series[0] for name, _ in LABEL.findall(line)}
    assert named == {"le", "kind", "verdict", "origin", "direction", "status", "engine", "version"}


def test_every_series_is_there_before_its_first_event():
    metrics = PrometheusTelemetry("fake")
    with exposed(metrics, "127.0.0.1", 0) as address:
        text = page(address)
    for kind in RoundKind:
        assert value(text, f'uihlm_rounds_total{{kind="{kind.value}"}}') == 0


def test_a_failed_forward_is_no_observation():
    metrics = PrometheusTelemetry("fake")
    metrics.forward(Forward(3, 7, 0.5, failed=True))
    metrics.forward(Forward(2, 5, 0.25))
    metrics.round(Round(RoundKind.STALE, 0.1))
    metrics.ended(Ending("UNKNOWN", stood=False, rounds=1, seconds=1.0))
    with exposed(metrics, "127.0.0.1", 0) as address:
        text = page(address)
    assert value(text, "uihlm_failed_forwards_total") == 1
    assert (value(text, "uihlm_forward_seconds_sum"), value(text, "uihlm_batch_positions_sum")) == (0.25, 5)
    assert value(text, "uihlm_queue_seconds_count") == 0, "a round without a forward has waited for nothing"
    assert value(text, "uihlm_sessions") == 0, "a stream that never stood was never counted in"


def test_a_taken_port_is_said_and_the_page_ends_with_the_block():
    metrics = PrometheusTelemetry("fake")
    with exposed(metrics, "127.0.0.1", 0) as address:
        second = exposed(PrometheusTelemetry("fake"), "127.0.0.1", address.port)
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{address.port}.*--metrics-port"), second:
            pass
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", address.port), timeout=5)


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UihlmError, match=r"pip install 'uihlm\[ops\]'"):
        PrometheusTelemetry("fake")
