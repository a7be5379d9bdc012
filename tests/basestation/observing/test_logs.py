"""Log lines: a record a line, the session it belongs to, and nothing of what it said."""

import json
import logging

import numpy as np
import pytest

from fakes import Bench, FakeDrafter, FakeEngine, contextual
from stations import RawClient, eventually, standing, upload
from uihlm_basestation.observing.logs import LogFormat, LogLevel, SessionLog, StderrHandler, log_to_stderr
from uihlm_basestation.observing.servicer import STREAM

V = 100_000


@pytest.fixture
def quiet_after():
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, StderrHandler)]:
        root.removeHandler(handler)
    root.setLevel(level)


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_is_one_object_a_line_with_its_session(quiet_after, capsys):
    log_to_stderr(LogFormat.JSON, LogLevel.INFO)
    with standing(FakeEngine(contextual(12, 1), 12), telemetry=SessionLog()) as station:
        for index in range(2):
            with Bench(station.address, FakeDrafter(contextual(12, 2), 12)) as bench:
                bench.run("hlm", index=index, max_tokens=3)
        lines: list[str] = []
        assert eventually(lambda: lines.extend(capsys.readouterr().err.splitlines()) or len(lines) == 4)
    told = records("\n".join(lines))
    assert [record["session"] for record in told] == [1, 1, 2, 2]
    assert [str(record["message"]).split(":")[0] for record in told] == ["session opened", "session ended"] * 2
    assert all(record.keys() == {"time", "level", "session", "message", "logger"} for record in told)
    assert all(record["level"] == "info" and str(record["time"]).endswith("+00:00") for record in told)


def test_a_traceback_stays_on_its_line(quiet_after, capsys):
    log_to_stderr(LogFormat.JSON, LogLevel.WARNING)
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        logging.getLogger("somewhere").exception("it\nfailed %s", "again")
    logging.getLogger("somewhere").info("too little")
    (record,) = records(capsys.readouterr().err)
    assert (record["level"], record["session"], record["message"]) == ("error", None, "it\nfailed again")
    assert "ValueError: one\ntwo" in record["exception"]


def test_text_names_the_session_and_the_last_setting_counts(quiet_after, capsys):
    log_to_stderr(LogFormat.JSON, LogLevel.ERROR)
    log_to_stderr(LogFormat.TEXT, LogLevel.INFO)
    token = STREAM.set(7)
    logging.getLogger("somewhere").info("said")
    STREAM.reset(token)
    logging.getLogger("somewhere").warning("said too")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(" info [session 7] said")
    assert second.endswith(" warning said too")


@pytest.mark.parametrize("form", LogFormat)
def test_neither_tokens_nor_keys_nor_payloads_are_logged(quiet_after, capsys, form):
    """At the chattiest level, for good requests and refused ones: every id is a number that nothing else would print."""
    log_to_stderr(form, LogLevel.DEBUG)
    z = np.zeros(V, np.float32)
    engine = FakeEngine(lambda ids: z, V)
    key = bytes(range(200, 216))
    # Larger than the vocabulary, which the refusal tells the device.
    bad = {"skipped_ids": [987_654], "first_position": 4, "drafts": [], "generate": 1}
    good = {"skipped_ids": [76_543], "first_position": 4, "drafts": [], "generate": 1}
    with standing(engine, telemetry=SessionLog()) as station, RawClient(station.address) as raw:
        for fields in (good, bad):
            stream = raw.opened(engine, prefix_ids=[65_432, 54_321, 43_210], session_key=key)
            stream.send(upload(engine, **fields))
            stream.half_close()
            _, details = stream.refusal()
        assert "987654" in details
        lines: list[str] = []
        assert eventually(
            lambda: lines.extend(capsys.readouterr().err.splitlines()) or sum("ended" in line for line in lines) == 2
        )
    text = "\n".join(lines)
    assert "INVALID_ARGUMENT" in text and "round generate" in text
    for secret in ("65432", "54321", "43210", "76543", "987654", key.hex(), repr(key)):
        assert secret not in text
