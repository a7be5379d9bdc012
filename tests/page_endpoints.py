"""Runs what a page's clients of the device's endpoint ask: `curl` and `llm`, against `uihlm-device serve` in this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from endpoints import served
from page_stations import TOKEN
from pages import ROOT, Command, blocks
from uihlm_device.endpoint import server

PATIENCE_S = 120
PLAIN, SECURE = "http://127.0.0.1:8080", "https://device.example:8080"
# How the page has the second one served.
KEYED = ("--api-tls-cert", "bs.pem", "--api-tls-key", "bs.key", "--api-key-file", "tokens.txt")


def missing(command: Command) -> str | None:
    """Why a client cannot run on this machine; None if it can."""
    here = shutil.which("curl") if command.program == "curl" else find_spec("llm")
    return None if here else f"{command.program} is not installed here"


def run(command: Command) -> str | None:
    """Ask the endpoint as the page does; what went wrong, if anything."""
    keyed = any(SECURE in word for word in command.words)
    with pytest.MonkeyPatch.context() as patch:
        # The others end once they are ready.
        patch.setattr(server, "serve", getattr(server.serve, "stays", server.serve))
        with served(patch, "--max-tokens", "6", *(KEYED if keyed else ())) as endpoint:
            # As `http://…/v1`, whatever it speaks.
            root = endpoint.url.removesuffix("/v1").replace("http:", "https:" if keyed else "http:")
            words = [word.replace(PLAIN, root).replace(SECURE, root).replace("$KEY", TOKEN) for word in command.words]
            return _asked_by_curl(words) if command.program == "curl" else _asked_by_llm(words, command, root)


def _asked_by_curl(words: list[str]) -> str | None:
    quiet = ["--silent", "--show-error", "--fail-with-body", "--noproxy", "*", "--max-time", str(PATIENCE_S)]
    done = subprocess.run([*words, *quiet], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"exit code {done.returncode}: {done.stdout[-400:]}{done.stderr[-400:]}"
    answer = json.loads(done.stdout)
    if words[-1].endswith("/chat/completions"):
        return None if answer["choices"][0]["message"]["content"] else f"no answer: {done.stdout}"
    wanted = "data" if words[-1].endswith("/models") else "status"
    return None if answer.get(wanted) else f"no {wanted}: {done.stdout}"


def _asked_by_llm(words: list[str], command: Command, root: str) -> str | None:
    (page,) = (ROOT / "docs").glob(command.page)
    models = next(block.text for block in blocks(page) if "model_id: split" in block.text)
    folder = Path("llm").absolute()
    folder.mkdir(exist_ok=True)
    (folder / "extra-openai-models.yaml").write_text(models.replace(PLAIN, root))
    environment = {**os.environ, "LLM_USER_PATH": str(folder), "OPENAI_API_KEY": "none", "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode or not done.stdout.strip():
        return f"exit code {done.returncode}: {done.stdout[-400:]}{done.stderr[-800:]}"
    return None
