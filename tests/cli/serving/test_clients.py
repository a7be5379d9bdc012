"""`uihlm-device serve` and programs that exist: the openai package and the llm command, many at once, one killed, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from endpoints import served, slowly, wordy
from fake_pair import installed
from stations import eventually

pytest.importorskip("llm")

MESSAGES = [{"role": "user", "content": "Name a river"}]
KEY = "k" * 32
READY = re.compile(r"ready: uihlm on (http\S+)\n")
# A process of its own, as signals and exit codes are a process's; only the weights are replaced.
DRIVER = """
import sys, pathlib, pytest
from endpoints import slowly, wordy
from fake_pair import installed
from uihlm_cli.device import main
weights = installed(pytest.MonkeyPatch(), pathlib.Path(sys.argv[1]))
weights.speaks = lambda salt: wordy(salt, stops=False)
weights.before_draft = slowly(0.01)
main(["serve", "--port", "0", *sys.argv[2:]])
"""


@pytest.fixture
def weights(monkeypatch, tmp_path):
    weights = installed(monkeypatch, tmp_path)
    weights.speaks = wordy
    return weights


def client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=30)


def answer(url: str, **named) -> str:
    fields = {"model": "uihlm", "messages": MESSAGES, "max_tokens": 16, "seed": 3, **named}
    return client(url).chat.completions.create(**fields).choices[0].message.content


def llm_command(url: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The llm command, with the endpoint among its models."""
    folder.mkdir(exist_ok=True)
    models = [{"model_id": "split", "model_name": "uihlm", "api_base": url}]
    models += [{"model_id": "split-text", "model_name": "uihlm", "api_base": url, "completion": True}]
    (folder / "extra-openai-models.yaml").write_text(json.dumps(models))
    environment = {**os.environ, "LLM_USER_PATH": str(folder), "LLM_LOAD_PLUGINS": ""}
    command = [sys.executable, "-m", "llm", "prompt", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def said(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out.removesuffix("\n")


@pytest.mark.parametrize("flags", [[], ["--no-stream"]])
def test_the_llm_command_gets_the_answer(flags, weights, monkeypatch, tmp_path):
    options = ["-o", "seed", "3", "-o", "max_tokens", "16", *flags]
    with served(monkeypatch) as endpoint:
        expected = answer(endpoint.url)
        process = llm_command(endpoint.url, tmp_path / "llm", "-m", "split", "Name a river", *options)
        assert said(process) == expected


def test_the_llm_command_continues_a_text(weights, monkeypatch, tmp_path):
    with served(monkeypatch) as endpoint:
        whole = client(endpoint.url).completions.create(model="uihlm", prompt="Once", max_tokens=16, seed=3)
        process = llm_command(
            endpoint.url, tmp_path / "llm", "-m", "split-text", "Once", "-o", "seed", "3", "-o", "max_tokens", "16"
        )
        assert said(process) == whole.choices[0].text


def test_models_are_listed_to_clients(weights, monkeypatch):
    with served(monkeypatch, "--model-name", "river") as endpoint:
        assert [model.id for model in client(endpoint.url).models.list()] == ["river"]
        assert client(endpoint.url).models.retrieve("river").owned_by == "uihlm"
        with pytest.raises(openai.NotFoundError, match="there is no model"):
            answer(endpoint.url)


def test_errors_are_those_that_clients_know(weights, monkeypatch, tmp_path):
    (tmp_path / "keys").write_text(f"{KEY}\n")
    weights.drafter_context = 64
    with served(monkeypatch, "--api-key-file", str(tmp_path / "keys")) as endpoint:
        opened = client(endpoint.url, KEY)
        assert opened.models.list().data
        with pytest.raises(openai.AuthenticationError, match="does not know"):
            answer(endpoint.url)
        with pytest.raises(openai.BadRequestError) as caught:
            long = [{"role": "user", "content": "x" * 64}]
            opened.chat.completions.create(model="uihlm", messages=long)
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="one answer"):
            opened.chat.completions.create(model="uihlm", messages=MESSAGES, n=2)
        # A bad request has hurt no other.
        assert opened.chat.completions.create(model="uihlm", messages=MESSAGES, max_tokens=4).choices


def test_one_too_many_is_told_when_to_come_again(weights, monkeypatch):
    weights.before_draft = slowly(0.02)
    weights.speaks = lambda salt: wordy(salt, stops=False)
    with served(monkeypatch, "--parallel", "1", "--max-waiting", "1") as endpoint, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(answer, endpoint.url, max_tokens=40) for _ in range(3)]
        failures = [job.exception() for job in asked if job.exception()]
        assert len(failures) == 1
        assert isinstance(failures[0], openai.RateLimitError)
        assert int(failures[0].response.headers["retry-after"]) >= 1


def test_without_a_base_station_a_request_is_told_so(weights, monkeypatch):
    with served(monkeypatch, "--server", "127.0.0.1:1") as endpoint:
        with pytest.raises(openai.InternalServerError, match="no base station answers") as caught:
            answer(endpoint.url)
        assert caught.value.status_code == 503


def test_ten_at_once_and_one_killed_in_mid_answer(weights, monkeypatch, tmp_path):
    weights.before_draft = slowly(0.002)
    weights.speaks = lambda salt: wordy(salt, stops=False)
    with served(monkeypatch, "--parallel", "2") as endpoint:
        alone = [answer(endpoint.url, seed=n) for n in range(9)]
        options = ["-o", "seed", "99", "-o", "max_tokens", "3000"]
        killed = llm_command(endpoint.url, tmp_path / "llm", "-m", "split", "Name a river", *options)
        assert killed.stdout.read(1)
        engine = weights.engines[0]
        with ThreadPoolExecutor(9) as pool:
            asked = [pool.submit(answer, endpoint.url, seed=n) for n in range(9)]
            assert eventually(lambda: busy(endpoint.url) == (2, 8))
            killed.kill()
            killed.communicate()
            # The first of these waited behind it: both drafters write again.
            assert [job.result() for job in asked] == alone
        assert eventually(lambda: not engine.sessions)
        before = weights.drafts
        time.sleep(0.1)
        assert weights.drafts == before


def test_who_leaves_while_the_answer_waits_for_the_link_frees_drafter_and_session_at_once(weights, monkeypatch):
    with served(monkeypatch, "--parallel", "1", "--rtt-s", "30", "--timeout-s", "200") as endpoint:
        with pytest.raises(openai.APITimeoutError):
            client(endpoint.url).with_options(timeout=1.0).chat.completions.create(model="uihlm", messages=MESSAGES)
        assert eventually(lambda: busy(endpoint.url) == (0, 0))
        assert eventually(lambda: not weights.engines[0].sessions)


def busy(url: str) -> tuple[int, int]:
    """Answers being written, and requests that wait."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/health", timeout=10) as reply:
        health = json.load(reply)
    return health["writing"], health["waiting"]


@contextmanager
def process(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and its address."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    folder = tmp_path / "process"
    folder.mkdir()
    command = [sys.executable, "-c", DRIVER, str(folder), *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = running.stdout.readline()
        ready = READY.fullmatch(line)
        assert ready, (line, running.stderr.read())
        yield running, ready[1]
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_answers_under_way_and_in_the_queue_finish(number, tmp_path):
    with process(tmp_path, "--parallel", "1") as (running, url), ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(answer, url, max_tokens=100, seed=seed) for seed in (1, 2)]
        assert eventually(lambda: busy(url) == (1, 1))
        running.send_signal(number)
        assert [len(job.result()) for job in asked] == [100, 100]
        with pytest.raises(openai.APIConnectionError):
            answer(url)
        _, errors = running.communicate(timeout=30)
        assert (running.returncode, errors.splitlines()[-1]) == (0, "stopped")
        assert "Traceback" not in errors


def test_what_outlasts_the_grace_is_broken_off_with_a_word(tmp_path):
    with process(tmp_path, "--parallel", "1", "--grace-s", "1") as (running, url):
        chunks = client(url).chat.completions.create(model="uihlm", messages=MESSAGES, max_tokens=3000, stream=True)
        next(chunks)
        running.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(chunks)
        _, errors = running.communicate(timeout=30)
        assert running.returncode == 0
        assert "Traceback" not in errors
