"""Two replicas behind Ray Serve's ingress on this machine: one is killed under load, and no answer is lost.

Ray is an extra of its own (`pip install 'uihlm[ray]'`) and takes seconds and gigabytes: without it these tests are skipped.
"""

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import Bench, FakeDrafter, FakeEngine, serving
from ray_engines import DRAFTER, LLM, TRACES, V
from stations import RawClient, opening
from uihlm_device.conversation import Conversation
from uihlm_device.outages.outage import OnOutage, Outage
from uihlm_proto.randomness import session_key

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'uihlm[ray]'"
    ),
]

PATIENCE_S = 120.0
DEVICES, TOKENS = 4, 150
DRIVER = """
import ray_engines
from uihlm_basestation.pool import replica
replica.load_named = ray_engines.load
from uihlm_cli import basestation
basestation.main()
"""
READY = re.compile(r"ready: 2 x fake on \[::\]:(\d+)\n")


@contextlib.contextmanager
def pool(traces: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `uihlm-bs serve --engine-pool ray` with fake engines, and yield the process and the ingress's address."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, TRACES: str(traces), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", DRIVER, "serve", "--engine-pool", "ray", "--replicas", "2", "--insecure"]
    command += ["--cpus-per-replica", "0.5", "--port", "0", "--grace-s", "5", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        ready = READY.fullmatch(line)
        assert ready, (line, process.stderr.read())
        yield process, f"127.0.0.1:{ready[1]}"
    finally:
        # Not at once with SIGKILL: Ray's own processes end with an orderly end of this one.
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0


def forwards(traces: Path) -> dict[int, int]:
    """The forwards that each replica's process has run."""
    return {int(path.name): int(path.read_text() or 0) for path in traces.iterdir()}


def answers(address: object, count: int) -> tuple[list[list[int]], int]:
    """What devices write that all ask at once, and how many streams they lost."""
    tokens: list[list[int]] = [[] for _ in range(count)]
    lost: list[int] = [0] * count
    outage = Outage(OnOutage.WAIT, patience_s=PATIENCE_S)

    def device(index: int) -> None:
        with Bench(address, FakeDrafter(DRAFTER, V), "coupled", timeout_s=PATIENCE_S) as bench:
            conversation = Conversation(session_key(0, index))
            conversation.extend([1, 2, 3])
            answer = bench.decoder("hlm", TOKENS, outage=outage).answer(conversation)
            tokens[index] = [record.token for record in answer]
            lost[index] = conversation.lost_links
            conversation.end_session()

    threads = [threading.Thread(target=device, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads), "a device hangs"
    return tokens, sum(lost)


def test_a_replica_killed_under_load_loses_no_token(tmp_path):
    with serving(FakeEngine(LLM, V)) as alone:
        undisturbed, _ = answers(alone, DEVICES)
    killed: list[int] = []

    def kill() -> None:
        """Once both have work, the busier one is gone without a word."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and not killed:
            busy = forwards(tmp_path)
            if len(busy) == 2 and min(busy.values()) > 20:
                killed.append(max(busy, key=busy.__getitem__))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.02)

    with pool(tmp_path) as (_, address):
        assert len(forwards(tmp_path)) == 2
        killer = threading.Thread(target=kill)
        killer.start()
        written, lost = answers(address, DEVICES)
        killer.join()
    assert killed, "both replicas were to have work before the end"
    assert 1 <= lost <= DEVICES
    assert written == undisturbed, "a dead replica's sessions go on elsewhere, with the same tokens"
    assert [len(tokens) for tokens in written] == [TOKENS] * DEVICES


def test_refusals_come_through_the_ingress_as_they_are(tmp_path):
    engine = FakeEngine(LLM, V)
    with pool(tmp_path, "--max-sessions", "1") as (_, address), RawClient(address) as raw:
        stream = raw.stream()
        stream.send(opening(engine, vocabulary_size=3))
        code, details = stream.refusal()
        assert code.name == "FAILED_PRECONDITION" and "use two models of one family" in details
        # One session a replica: whichever the third one meets is full.
        first, second = raw.opened(engine), raw.opened(engine)
        third = raw.stream()
        third.send(opening(engine))
        code, details = third.refusal()
        assert code.name == "RESOURCE_EXHAUSTED" and "1 sessions are taken" in details
        assert "try again later, in about" in details, (
            "the sentence has the hint: Ray drops trailing metadata of errors"
        )
        first.half_close(), second.half_close()
